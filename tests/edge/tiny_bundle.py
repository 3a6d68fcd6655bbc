"""The model with known answers lives beside the fault bench."""

from benchmarks.tiny_bundle import *  # noqa: F403
