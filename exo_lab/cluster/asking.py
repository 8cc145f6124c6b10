"""What a user asks, checked and turned into tokens before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from exo_lab.cluster.catalogue import encode
from exo_lab.core.errors import ConfigError, PromptTooLong
from exo_lab.core.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.core.messages import ModelRef
    from exo_lab.core.plan import Plan
    from exo_lab.core.status import LoadedModel
    from exo_lab.models.tokenizer import Tokenizer

DEFAULT_MODEL = "smollm2-135m"

Made = TypeVar("Made", bound=msgspec.Struct)


class Question(NamedTuple):
    """A prompt that fits: its text as the model sees it, its tokens, and how to choose the answer's."""

    text: str
    ids: tuple[int, ...]
    sampling: SamplingParams
    tokenizer: Tokenizer


def prepare(
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[Mapping[str, str]],
    raw: bool,
    system: str | None,
    options: Mapping[str, Any],
) -> Question:
    """Check everything that can be checked here.

    Args:
        loaded: the model that is asked.
        tokenizer: the model's.
        prompt: what the user says, or a list of {"role", "content"} messages.
        raw: no chat template.
        system: a system message before the prompt.
        options: fields of `SamplingParams`; None means not given.

    Raises:
        ConfigError: an option is wrong, or the prompt is empty.
        PromptTooLong: prompt and max_tokens exceed the model's context.
    """
    params = options_as(SamplingParams, "sampling", options, none_is_unset=True)
    text, ids = encode(tokenizer, prompt, raw, system)
    room = loaded.config.context_length
    if not ids:
        raise ConfigError("the prompt is empty")
    if len(ids) + params.max_tokens > room:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens and max_tokens is {params.max_tokens}; {loaded.plan.model} has room "
            f"for {room} in all. Shorten the prompt or ask for fewer tokens."
        )
    return Question(text, tuple(ids), params, tokenizer)


def chosen(plans: Mapping[str, Plan], references: Mapping[str, ModelRef], model: str | None) -> Plan:
    """The plan of the loaded model that a user means by name, or the only one. ConfigError if there is none such."""
    there = sorted(name for name in plans if name in references)
    for name in there:
        if (model is None and len(there) == 1) or model in (name, references[name].name):
            return plans[name]
    names = ", ".join(there)
    if not there:
        raise ConfigError(f"no model is loaded. Load one first: %exo load {model or DEFAULT_MODEL}")
    wanted = "say which model" if model is None else f"{model} is not loaded"
    raise ConfigError(f"{wanted}; loaded are {names}")


def options_as(kind: type[Made], what: str, options: Mapping[str, Any], *, none_is_unset: bool = False) -> Made:
    """Options as a user gives them, as a struct; `what` they are, for the error. None may mean that one was not given.

    Raises:
        ConfigError: an option that there is not, or a value that it cannot have.
    """
    known = kind.__struct_fields__
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(f"no option {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        given = {name: value for name, value in options.items() if value is not None or not none_is_unset}
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{what}: {exc}") from exc
