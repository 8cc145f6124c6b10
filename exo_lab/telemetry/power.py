"""Does this machine run on its battery?"""

from __future__ import annotations

import psutil


def on_battery() -> bool:
    """True if there is a battery and it is not being charged from the wall. Unknown counts as plugged in."""
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError, NotImplementedError):  # not on every system
        return False
    return battery is not None and battery.power_plugged is False
