"""`python -m azr_lite` is `azr-lite`: for launchers, which start modules."""

from azr_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
