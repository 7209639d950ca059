"""Measurements for `azr-lite bench`: whether it learns (`learning.py`, drawn by `figure.py`), where a step's time goes
(`step.py` for nano, `plain.py` for any other model), what a long log costs to read (`log.py`). The verb itself: `commands.py`.

Not covered: the sandbox's speed, which is measured where it is built (`sandbox/bench.py`).
"""
