"""Every error that exo_lab raises on purpose, as one tree.

* ExoError
  * ConfigError               something the user wrote is wrong: names file, line, field
  * ModelError
    * ModelNotFound           no such name, path or hub id; says where we looked
    * UnsupportedModel        architecture, quantisation or file type we do not run
    * CorruptModel            the file is damaged or lies about itself
  * PlanError
    * DoesNotFit              says what is short by how much
    * BadPlan                 layers missing, held twice, or given to nobody
  * TransportError
    * FrameError              a frame that is malformed, too large, or of another version
    * PeerUnreachable         the peer did not answer within the deadline
  * NodeError
    * NotConnected            this kernel is no node yet
    * NodeLost                a node went away while it was needed
    * StaleEpoch              a message of a plan that is no longer held
  * GenerationError
    * PromptTooLong           prompt + max_tokens exceed the context length
    * GenerationTimeout       no token within the deadline
    * Cancelled               the requester asked to stop

A message names its subject, what was needed, what there was, and what to do next.
"""

from __future__ import annotations


class ExoError(Exception):
    """Root of every error raised by exo_lab."""


class ConfigError(ExoError):
    """A value that the user wrote (file, option, argument) is wrong."""


class ModelError(ExoError):
    """A model could not be found, read or run."""


class ModelNotFound(ModelError):
    """No model of that name, path or hub id."""


class UnsupportedModel(ModelError):
    """The file is sound, but we do not run this architecture, quantisation or format."""


class CorruptModel(ModelError):
    """The file is truncated, or its header contradicts its contents."""


class PlanError(ExoError):
    """A plan could not be made or is not valid."""


class DoesNotFit(PlanError):
    """The devices offer too little memory; says by how much."""


class BadPlan(PlanError):
    """Layers missing, held twice, or given to a device that does not exist."""


class TransportError(ExoError):
    """Bytes could not be moved."""


class FrameError(TransportError):
    """A frame was refused: malformed, oversized, of another version, or of a wrong dtype or shape."""


class PeerUnreachable(TransportError):
    """A peer did not answer within the deadline."""


class NodeError(ExoError):
    """A node is not in the state that the request needs."""


class NotConnected(NodeError):
    """This kernel is not a node yet."""


class NodeLost(NodeError):
    """A node went away while it was needed."""


class StaleEpoch(NodeError):
    """A message belongs to a plan that this node no longer holds."""


class GenerationError(ExoError):
    """A generation could not be started or finished."""


class PromptTooLong(GenerationError):
    """Prompt plus requested tokens exceed the model's context length."""


class GenerationTimeout(GenerationError):
    """No token arrived within the deadline."""


class Cancelled(GenerationError):
    """The requester asked to stop."""


BY_NAME: dict[str, type[ExoError]] = {
    cls.__name__: cls
    for cls in (
        ExoError, ConfigError, ModelError, ModelNotFound, UnsupportedModel, CorruptModel, PlanError,
        DoesNotFit, BadPlan, TransportError, FrameError, PeerUnreachable, NodeError, NotConnected,
        NodeLost, StaleEpoch, GenerationError, PromptTooLong, GenerationTimeout, Cancelled,
    )
}  # fmt: skip


def from_wire(kind: str, message: str, node: str) -> ExoError:
    """The error that a peer reported, as the same class here; its text names the node it came from."""
    return BY_NAME.get(kind, ExoError)(f"{message} [reported by node {node}]")
