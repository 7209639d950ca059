"""The real engines, each in an environment of its own: ``make test-engines`` (not part of ``make test``; pytest collects none of it)."""
