"""The part of `Cluster` that is about answers: asking, and asking again what was asked before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from exo_lab.cluster.asking import Question, prepare
from exo_lab.cluster.catalogue import tokenizer_of
from exo_lab.cluster.drafting import load_draft
from exo_lab.cluster.exporting import Exports
from exo_lab.cluster.models import DEFAULT_STRATEGY, Models
from exo_lab.cluster.recording import Recorder
from exo_lab.core.errors import ConfigError
from exo_lab.generation import Generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.core.model import ModelConfig
    from exo_lab.core.record import RunRecord
    from exo_lab.core.status import LoadedModel
    from exo_lab.models.tokenizer import Tokenizer
    from exo_lab.node.draft import Draft

TOKEN_TIMEOUT_S = 120.0


class Answers(Models, Exports):
    """See the module. `Cluster` makes `node` and its control thread."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: WeakValueDictionary[str, Generation] = WeakValueDictionary()  # by request
        self._drafted: tuple[str, str, Draft] | None = None  # (its name, the model's digest, loaded)

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        model: str | None = None,
        raw: bool = False,
        system: str | None = None,
        draft: str | None = None,
        timeout_s: float = TOKEN_TIMEOUT_S,
        **sampling: Any,
    ) -> Generation:
        """Start a generation on the loaded model's plan; it is running when this returns.

        Args:
            prompt: what the user says, or a list of {"role", "content"} messages.
            model: which of the loaded models; not needed if there is one.
            raw: complete the text as it is, without the chat template.
            system: a system message before the prompt.
            draft: a small model with the same tokenizer, loaded on this node at its first use, that guesses for the
                large one: the same tokens with fewer trips around the ring. Not used where `speculate` is 0.
            timeout_s: the longest wait for one token.
            sampling: fields of `SamplingParams`.

        Raises:
            ConfigError: no model is loaded, an option is wrong, or the draft has another tokenizer.
            DoesNotFit: the draft does not fit on this node.
            PromptTooLong: prompt and max_tokens exceed the model's context.
        """
        loaded = self._loaded(model)
        question = prepare(loaded, self._tokenizer(loaded), prompt, raw, system, sampling)
        helpful = draft is not None and question.sampling.speculate != 0
        helper = self._draft(draft, loaded.config, question.tokenizer) if draft is not None and helpful else None
        return self._ask(loaded, question, timeout_s, helper)

    def replay(self, record: RunRecord, *, devices: Sequence[str] | None = None) -> Generation:
        """Run a recorded run again: the same prompt tokens, sampling and seed, on the present plan of the same weights.

        Args:
            record: what `Generation.record` or `core.record.decode` gave.
            devices: have these nodes load the model first (names or ids in ring order), to compute as it was then.

        Raises:
            ConfigError: the model is not loaded, its weights are others, or it cannot have such a prompt.
            ExoError: as `load`.
        """
        loaded = same_model(self.models(), record)
        if devices is not None:
            plan, needed = loaded.plan, len(record.prompt_tokens) + record.sampling.max_tokens
            there = {"strategy": DEFAULT_STRATEGY, "devices": devices, "layers": None}
            wish = self.wish_of(plan, **there, context=max(plan.context_tokens, needed))
            loaded = self._load(self.node.models[plan.model].name, loaded.config, wish, alike=record.plan)
        question = Question(record.prompt, record.prompt_tokens, record.sampling, self._tokenizer(loaded))
        return self._ask(loaded, question, TOKEN_TIMEOUT_S, None)

    def _ask(self, loaded: LoadedModel, question: Question, timeout_s: float, helper: Draft | None) -> Generation:
        self._check_reach(loaded.plan)
        reference = self.node.models[loaded.plan.model]
        self.node.recovery.shapes[reference.digest] = loaded.config
        params, tokenizer = question.sampling, question.tokenizer
        request = self.node.submit(loaded.plan, question.ids, params, tokenizer.eos, timeout_s, helper)
        made = self._asked[request.id] = Generation(
            request,
            tokenizer.stream(),
            prompt=question.text,
            stop=params.stop,
            decode=tokenizer.token_text,
            cancel=self.node.cancel,
            follow=self.follow,
            recorder=Recorder(self.node, request, reference.digest, params.stop),
        )
        return made

    def stop(self, request: str | None = None) -> int:
        """End one answer that was asked here, or all of them, whether somebody reads them or not. Any thread.

        Returns:
            How many were not at their end.
        """
        running = {one.id: one for one in self.node.ring.requests if not one.over.is_set()}
        unread = {id_: one for id_, one in tuple(self._asked.items()) if not one.done}
        ended = {id_ for id_ in (*running, *unread) if request in (None, id_)}
        for id_ in ended:
            if id_ in unread:
                unread[id_].cancel()
            else:
                self.node.cancel(running[id_])
        return len(ended)

    def _tokenizer(self, loaded: LoadedModel) -> Tokenizer:
        return tokenizer_of(self.node, self.node.models[loaded.plan.model])

    def _draft(self, name: str, model: ModelConfig, tokenizer: Tokenizer) -> Draft:
        """A loaded draft; the one before is freed when nobody uses it any more."""
        if self._drafted is None or self._drafted[:2] != (name, model.digest):
            self._drafted = None
            self._drafted = (name, model.digest, load_draft(self.node, name, model, tokenizer))
        return self._drafted[2]


def same_model(loaded: Sequence[LoadedModel], record: RunRecord) -> LoadedModel:
    """The loaded model whose weights are those of a record. A name in a record is only told, and never opened.

    Raises:
        ConfigError: none is, or the record is of tokens that the model has not.
    """
    found = next((one for one in loaded if one.config.digest == record.digest), None)
    name = record.plan.model[:100]
    if found is None:
        other = next((one for one in loaded if one.plan.model == record.plan.model), None)
        if other is not None:
            raise ConfigError(
                f"the {name} that is loaded has other weights than the recorded run (digest "
                f"{other.config.digest[:12]}, the record's is {record.digest[:12]}). Load the file that was used then."
            )
        there = ", ".join(one.plan.model for one in loaded) or "nothing"
        raise ConfigError(f"the recorded run is of {name}, and loaded is {there}. Load it first: %exo load {name}")
    room = len(record.prompt_tokens) + record.sampling.max_tokens
    if max(record.prompt_tokens) >= found.config.vocab_size or room > found.config.context_length:
        raise ConfigError(
            f"the record says of {name} what cannot be: it has {found.config.vocab_size} tokens and a context of "
            f"{found.config.context_length}. The record was not made by a run of these weights."
        )
    return found
