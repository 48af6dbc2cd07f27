"""``python -m lib.runs list | verify | prune``: manage the records that sweeps kept."""

import sys

from lib.runs.housekeeping import main

if __name__ == "__main__":
    sys.exit(main())
