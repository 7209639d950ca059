"""`python -m azr_lite` is `azr-lite`: for launchers, which start modules.

Comes in: the words after it.  Goes out: the command's exit status.
Not covered: everything else (`cli.py`).
"""

from azr_lite.cli import main
from azr_lite.train.distributed import end

if __name__ == "__main__":
    raise SystemExit(end(main()))
