"""Cameras: each reads one kind of source into frames."""
