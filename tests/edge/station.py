"""The test station lives beside the fault bench, which injects into the same one."""

from benchmarks.station import *  # noqa: F403
