"""How the next token is chosen: parameters only. The arithmetic is in `engines/sampling`."""

from __future__ import annotations

import math

import msgspec

from exo_lab.core.errors import ConfigError

MOST_GUESSES = 15  # in one step
LOOKED_UP = 1 << 15  # tokens that guesses are looked up in


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling of one request. temperature 0 is greedy.

    Order of the filters is that of llama.cpp and Transformers: repetition penalty, temperature, top-k,
    top-p, min-p. Values that switch a filter off: top_k 0, top_p 1, min_p 0, repetition_penalty 1.
    `logprobs`: how many alternatives to report with each token. `speculate`: how many tokens to guess at most in each
    step from what was said before (None: as many as pay, 0: none); changes no token, and saves trips around the ring
    where guesses are right.
    `prefix_cache`: may a beginning that this prompt shares with one before be taken from what was computed for that?
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    speculate: int | None = None
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        checks = (
            (0 <= self.temperature < math.inf, "temperature", self.temperature, "0 (greedy) or more and finite"),
            (self.top_k >= 0, "top_k", self.top_k, "0 (off) or more"),
            (0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]"),
            (0 <= self.min_p <= 1, "min_p", self.min_p, "in [0, 1]"),
            (
                0 < self.repetition_penalty < math.inf,
                "repetition_penalty",
                self.repetition_penalty,
                "above 0, and finite",
            ),
            (0 <= self.seed < 2**63, "seed", self.seed, "in [0, 2^63)"),
            (self.max_tokens > 0, "max_tokens", self.max_tokens, "1 or more"),
            (all(self.stop), "stop", list(self.stop), "strings that are not empty"),
            (0 <= self.logprobs <= 20, "logprobs", self.logprobs, "in [0, 20]"),
            (0 <= (self.speculate or 0) <= MOST_GUESSES, "speculate", self.speculate, f"in [0, {MOST_GUESSES}]"),
        )
        for good, field, value, rule in checks:
            if not good:
                raise ConfigError(f"{field} must be {rule}, got {value}")

    def history(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Of a request's tokens so far, those that the stage that chooses the next ones must know.

        All for a repetition penalty; for guesses the latest will do, and a long prompt would not fit into a header.
        """
        if self.repetition_penalty != 1:
            return tokens
        return tokens[-LOOKED_UP:] if self.speculate != 0 else ()
