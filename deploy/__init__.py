"""Putting the rooms together: the demo on one machine, and what a plant installs."""
