"""A message of every type, about a given node and plan, nearly all of them good: what the fuzz tests start from."""

from __future__ import annotations

from exo_lab.core import messages as msg
from exo_lab.core import weights_messages as weights
from exo_lab.core.events import Event, Events, GetEvents
from exo_lab.core.plan import Plan
from exo_lab.core.prefix import extend
from exo_lab.core.probe import Probed, ProbeLinks, summarise
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.tensor import Tensor
from exo_lab.engines import convert
from exo_lab.node.node import Node
from exo_lab.transport.keys import Identity


def control_messages(node: Node, plan: Plan, digest: str) -> list[msg.ControlMessage]:
    """One of each, questions and answers."""
    stranger = Identity.create()
    device = type(node.device)(id=stranger.device_id, name="stranger")
    card = stranger.sign_card(msg.NodeCard(device=device, control="memory://nobody", data="memory://nobody"))
    model = msg.ModelRef(name=plan.model, digest=digest)
    stage = plan.stage_of(node.id) or 0
    return [
        msg.Hello(card=card),
        msg.Hello(card=node.card),
        msg.Ping(sequence=1, payload=b"x" * 100),
        msg.Pong(sequence=1, plans=(("tiny", 1, node.id),)),
        msg.Leave(node="nobody"),
        msg.Collect(visited=("a", "b"), max_depth=2),
        msg.Collected(topology=node.topology, visited=("a",)),
        msg.LoadShard(plan=plan, stage=stage, model=model),
        msg.Activate(plan=plan, model=model),
        msg.Unload(model="tiny", epoch=plan.epoch, proposer=plan.proposer),
        msg.GetPlans(),
        msg.Plans(plans=(plan,), models=(model,)),
        msg.GetStats(),
        GetEvents(),
        Events(events=(Event(at_s=1.0, kind="nodes", text="x"),)),
        ProbeLinks(peers=("a", "b"), sizes=(2048,), pings=3),
        Probed(links=(summarise("a", "b", [0.1, None], [(2048, [0.2])]),)),
        msg.Stats(sessions=1, counters={"a": 1}),
        msg.Progress(done=1, total=2, what="x"),
        msg.Done(bytes=5, seconds=0.1),
        msg.Refused(error="NodeLost", message="x"),
        weights.FindWeights(name=plan.model, digest=digest),
        weights.WeightsHeld(digest=digest, files=(weights.HeldFile(kind="gguf", size=9, header=5, tensors=((5, 9),)),)),
        weights.ReadWeights(digest=digest, file=0, ranges=((0, 8), (9, 12))),
        weights.WeightBytes(data=b"x" * 12),
        weights.CheckWeights(digest=digest, file=0, range=(5, 9)),
        weights.WeightsChecksum(sha256=b"x" * 32),
    ]


def data_messages(node: Node, plan: Plan) -> list[tuple[msg.DataMessage, Tensor | None]]:
    """One of each, with the tensor that belongs to it. Every stage of the plan gets a step of its own."""
    spec = msg.SessionSpec(
        requester="stranger",
        reply_to="memory://nobody",
        sampling=SamplingParams(temperature=0.5, repetition_penalty=1.1),
        eos=(2,),
        prompt_tokens=3,
        total_tokens=6,
        history=(5, 6, 7),
    )

    def step(stage: int, **changes: object) -> msg.Step:
        fields = {
            "request": f"fuzz{stage}",
            "model": plan.model,
            "epoch": plan.epoch,
            "proposer": plan.proposer,
            "stage": stage,
            "position": 0,
            "spec": spec,
            "timings": (msg.StageTiming("x", 0.1, 0.2),),
            **changes,
        }
        return msg.Step(**fields)  # pyright: ignore[reportArgumentType]

    def cache(layer: int) -> msg.Cache:
        return msg.Cache(
            request="fuzz.1", model=plan.model, epoch=plan.epoch, proposer=plan.proposer, layer=layer, spec=spec
        )

    return [
        (step(0), convert.tokens([5, 6, 7])),
        (step(1), Tensor("float32", (3, 64), bytes(3 * 64 * 4))),
        (step(0, request="named", prefix=extend(b"", (5, 6, 7))), convert.tokens([5, 6, 7])),
        (step(1, request="named", prefix=extend(b"", (5, 6, 7)), final=False), None),
        (step(0, request="no tokens", prefix=bytes(16)), Tensor("float32", (3,), bytes(3 * 4))),  # a name, and nothing
        (step(0, request="square", prefix=bytes(16)), Tensor("int32", (1, 2), bytes(8))),  # that could be named so
        (step(0, spec=None, position=3), convert.tokens([5])),
        (msg.Token(request="fuzz", position=3, token=5, logprob=-0.5, alternatives=((1, -0.1),)), None),
        (msg.Cancel(request="fuzz"), None),
        (msg.HandOver(request="fuzz.1", ended="fuzz0", plan=plan, positions=2, spec=spec), None),
        (cache(0), Tensor("float32", (2, 2, 2, 16), bytes(2 * 2 * 2 * 16 * 4))),
        (cache(plan.n_layers - 1), Tensor("float32", (2, 2, 2, 16), bytes(2 * 2 * 2 * 16 * 4))),
        (msg.Adopted(request="fuzz.1", node=node.id), None),
        (msg.Lacks(request="fuzz", positions=0, node="y"), None),
        (msg.Failed(request="fuzz", error="NodeLost", message="x", node="y"), None),
    ]
