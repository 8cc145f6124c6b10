"""The reference scenarios of the source: devices, a model, and what their memory really adds up to. Pure data."""

from __future__ import annotations

from typing import NamedTuple


class ReferenceScenario(NamedTuple):
    """`devices` as `described` reads them; `stated_gb`: the sum that the source gives."""

    name: str
    title: str
    model: str
    devices: str
    stated_gb: int

    def remark(self, memory_bytes: int) -> str:
        """The true sum beside the stated one."""
        true_gb = memory_bytes / (1 << 30)
        return f"{self.title}: the source adds its memory up to {self.stated_gb} GB; it is {true_gb:g} GB."


REFERENCE_SCENARIOS: dict[str, ReferenceScenario] = {
    scenario.name: scenario
    for scenario in (
        ReferenceScenario(
            "laptops",
            "Reference scenario 1",
            "Llama 3.1 8B",
            "MacBook Air: M3 8GB x2, Linux server: RTX 4070 12GB, iPad Pro: M2 8GB",
            28,
        ),
        ReferenceScenario(
            "phones",
            "Reference scenario 2",
            "Mistral 7B",
            # "Android flagship" names no chip: its speed is assumed.
            "iPhone 15 Pro: A17 Pro 6GB x3, Android flagship: ? 8GB x2, iPad Air: M1 8GB",
            34,
        ),
    )
}
