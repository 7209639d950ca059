"""Absolute Zero self-play, small enough to read."""
