"""Measurements for `azr-lite bench`: whether it learns (`learning.py`), where a step's time goes (`step.py`).

Not covered: the sandbox's speed, which is measured where it is built (`sandbox/bench.py`).
"""
