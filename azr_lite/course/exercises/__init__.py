"""The course's exercises, one file per notebook: key, probes, and the mistakes that are known by name."""
