"""What is measured how often and what is too much: the user's settings, and reading them from text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.core.telemetry import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

HYSTERESIS = 0.9  # where the user sets a threshold, an alert is cleared below so much of it
FASTEST_S = 0.2


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When a reading is an alert: above `threshold` for `raise_after_s`, until below `clear` for `clear_after_s`."""

    quantity: Quantity
    threshold: float
    clear: float
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0


# Three readings in a row, five of a link's: one that stands alone is no alert.
RULES = (
    Rule(quantity="compute", threshold=0.90, clear=0.80, raise_after_s=10.0, clear_after_s=10.0),
    Rule(quantity="memory", threshold=0.85, clear=0.80, raise_after_s=6.0, clear_after_s=6.0),
    Rule(quantity="latency", threshold=0.100, clear=0.080, raise_after_s=4.0, clear_after_s=4.0),
    Rule(quantity="temperature", threshold=80.0, clear=75.0, raise_after_s=20.0, clear_after_s=20.0),
)
SCALES: dict[Quantity, float] = {
    "compute": 0.01,
    "memory": 0.01,
    "latency": 1e-3,
    "temperature": 1.0,
}  # of what is typed


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between two readings, 0: never. `device_s` is for temperature and load."""

    compute_s: float = 5.0
    memory_s: float = 3.0
    network_s: float = 1.0
    device_s: float = 10.0
    rules: tuple[Rule, ...] = RULES

    @property
    def off(self) -> bool:
        """Is nothing measured?"""
        return not any((self.compute_s, self.memory_s, self.network_s, self.device_s))

    def rule(self, quantity: Quantity) -> Rule | None:
        """What is too much of something; None if nothing is."""
        return next((rule for rule in self.rules if rule.quantity == quantity), None)


OFF = Watching(compute_s=0.0, memory_s=0.0, network_s=0.0, device_s=0.0)


def with_intervals(watching: Watching, given: Mapping[str, float]) -> Watching:
    """Other seconds between readings: {"memory": 1.0}; 0 turns a sensor off.

    Raises:
        ConfigError: no such sensor, or no such time.
    """
    names = [name.removesuffix("_s") for name in Watching.__struct_fields__ if name.endswith("_s")]
    for name, seconds in given.items():
        if name not in names:
            raise ConfigError(f"no sensor {name!r}; there are {', '.join(names)}")
        if not math.isfinite(seconds) or (seconds != 0 and seconds < FASTEST_S):
            raise ConfigError(f"the sensor {name} takes {FASTEST_S:g} seconds or more, or 0 for never, not {seconds:g}")
    return msgspec.structs.replace(watching, **{f"{name}_s": seconds for name, seconds in given.items()})


def with_thresholds(watching: Watching, given: Mapping[str, float]) -> Watching:
    """Other thresholds: compute and memory in percent, latency in ms, temperature in degrees Celsius; 0: no alert.

    Raises:
        ConfigError: nothing has such a threshold.
    """
    rules = {rule.quantity: rule for rule in (*RULES, *watching.rules)}
    scales: dict[str, float] = {**SCALES}
    for name, typed in given.items():
        rule = next((rule for rule in rules.values() if rule.quantity == name), None)
        if rule is None:
            raise ConfigError(f"no threshold {name!r}; there are {', '.join(SCALES)}")
        if not math.isfinite(typed) or typed < 0:
            raise ConfigError(f"the threshold {name} takes a number above 0, or 0 for no alert, not {typed:g}")
        value = typed * scales[name]
        rules[rule.quantity] = msgspec.structs.replace(rule, threshold=value, clear=HYSTERESIS * value)
    return msgspec.structs.replace(watching, rules=tuple(rule for rule in rules.values() if rule.threshold > 0))


def pairs(text: str, what: str) -> dict[str, float]:
    """`memory=1,compute=2` as {"memory": 1.0, "compute": 2.0}.

    Raises:
        ConfigError: it is not of that form; `what` says whose it is.
    """
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"{what} takes NAME=NUMBER,..., such as memory=1,compute=2, not {part!r}")
    return found


def watching_of(sensors: str, thresholds: str, base: Watching | None = None) -> Watching:
    """Settings as a user types them: `sensors` may be "off".

    Raises:
        ConfigError: one of them is wrong.
    """
    watching = base or Watching()
    if sensors.strip().casefold() == "off":
        watching = msgspec.structs.replace(OFF, rules=watching.rules)
    else:
        watching = with_intervals(watching, pairs(sensors, "sensors"))
    return with_thresholds(watching, pairs(thresholds, "thresholds"))
