"""What the notebooks share: one concept a file, from settings to figures."""

import logging

# Without the optional package `kernels`, and with paged optimizers on a CPU, bitsandbytes warns at every
# import or step; the notebooks say both once, in their text.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
