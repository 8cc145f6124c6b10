"""What a stage demands of a step before it computes it. Pure; a frame comes from a peer, so nothing in it is believed.

Every refusal is a `FrameError` that says what came and what would be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import FrameError, PromptTooLong
from exo_lab.core.prefix import NAME_BYTES
from exo_lab.core.sampling import MOST_GUESSES
from exo_lab.engines import convert, wire
from exo_lab.engines.base import PREFILL_CHUNK

if TYPE_CHECKING:
    from exo_lab.core.messages import SessionSpec, Step
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.tensor import Tensor
    from exo_lab.core.wire import Wire

FLOAT_DTYPES = ("float32", "bfloat16", "float16")  # on a float32 wire: what the engine computes in is not rounded


def check_spec(spec: SessionSpec, config: ModelConfig) -> None:
    """Could this be a request for this model?

    Raises:
        PromptTooLong: prompt and answer exceed the context.
        FrameError: numbers that contradict each other, or token ids that the model does not have.
    """
    if not 0 < spec.prompt_tokens < spec.total_tokens:
        raise FrameError(
            f"a request of {spec.prompt_tokens} prompt tokens and {spec.total_tokens} in all makes no sense"
        )
    if spec.total_tokens > config.context_length:
        raise PromptTooLong(
            f"prompt and answer need {spec.total_tokens} tokens, {config.name} has room for {config.context_length}. "
            "Shorten the prompt or ask for fewer tokens."
        )
    if spec.history and not (min(spec.history) >= 0 and max(spec.history) < config.vocab_size):
        raise FrameError(f"a token id of the prompt lies outside the vocabulary of {config.vocab_size}")


def check_step(step: Step, tensor: Tensor | None, config: ModelConfig, precision: Wire = "float32") -> Tensor:
    """The tensor of a step as an engine takes it, if dtype, shape, position, scales and token ids fit the model.

    Args:
        step: what came.
        tensor: with it.
        config: of the model.
        precision: in which the plan has hidden states come to this stage.

    Raises:
        FrameError: they do not.
    """
    if tensor is None:
        raise FrameError(f"a step for stage {step.stage} came without a tensor")
    if step.prefix and (len(step.prefix) != NAME_BYTES or step.guesses):
        raise FrameError(f"a name of {len(step.prefix)} bytes; a chunk of a prompt has one of {NAME_BYTES}")
    _check_shape(step.stage, tensor, config, precision)
    guesses = len(step.guesses)
    if guesses > min(tensor.shape[0] - 1, MOST_GUESSES) or (guesses and not step.final):
        raise FrameError(f"a step of {tensor.shape[0]} positions cannot have {guesses} guesses")
    if step.position < 0 or step.position + tensor.shape[0] > config.context_length:
        raise FrameError(
            f"positions from {step.position} on, {tensor.shape[0]} of them, lie outside the context of "
            f"{config.context_length} tokens"
        )
    if step.stage == 0:
        ids = convert.to_numpy(tensor)
        if int(ids.min()) < 0 or int(ids.max()) >= config.vocab_size:
            raise FrameError(f"a token id lies outside the vocabulary of {config.vocab_size}")
        if guesses and tuple(ids[-guesses:].tolist()) != step.guesses:
            raise FrameError(f"request {step.request}: the guesses at {step.position} are not the tokens that came")
        return tensor
    return wire.unpack(tensor, precision, config.hidden_size)


def _check_shape(stage: int, tensor: Tensor, config: ModelConfig, precision: Wire) -> None:
    dtypes = ("int32",) if not stage else FLOAT_DTYPES if precision == "float32" else (precision,)
    width = wire.packed_width(config.hidden_size, precision)
    sides = (width,) if stage else ()
    rows = tensor.shape[0] if tensor.shape else 0
    if tensor.dtype not in dtypes or not 0 < rows <= PREFILL_CHUNK or tensor.shape[1:] != sides:
        wanted = f"{precision} (1..{PREFILL_CHUNK}, {width})" if stage else f"int32 (1..{PREFILL_CHUNK},)"
        raise FrameError(f"stage {stage} takes {wanted}, got {tensor.dtype} {tensor.shape}")
