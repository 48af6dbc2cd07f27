"""What the notebooks share: one concept a file, from settings to figures."""

import logging
import os

# Without the optional package `kernels`, and with paged optimizers on a CPU, bitsandbytes warns at every
# import or step; the notebooks say both once, in their text.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Deterministic matrix products on CUDA need it, and PyTorch looks once, at a process's first product: by the
# time that a run asks for determinism, another may have multiplied.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# transformers would ask a service to convert a Hub model's pickled weights, and load what its bot proposes.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
