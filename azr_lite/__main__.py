"""`python -m azr_lite` is `azr-lite`: for launchers, which start modules."""

import os

from azr_lite.cli import main

if __name__ == "__main__":
    status = main()
    if "WORLD_SIZE" in os.environ:
        from azr_lite.train.distributed import end  # loads much, which only one of several processes needs

        end(status)
    raise SystemExit(status)
