"""For learners: runs that are sick on purpose (`bugs.py`). Imported by nothing else in the package.

Not covered: healthy runs, which need nothing from here.
"""
