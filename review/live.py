"""What every station does right now, in memory only: permits arrive four times a second and are never stored."""

from __future__ import annotations


class Live:
    """Filled by the MQTT thread, read by pages."""
