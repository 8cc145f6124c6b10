"""The verb `fit`: what fits on the cluster's devices, or on described ones. Loads and fetches nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from exo_lab.core.errors import ConfigError, ModelNotFound
from exo_lab.front.fit_view import FitView
from exo_lab.planning.described import described, linked
from exo_lab.planning.known_models import NAMES, QUANTISATIONS, config_of_shape, known, with_sizes
from exo_lab.planning.links import LINK_DEFAULTS
from exo_lab.planning.memory import with_free_memory
from exo_lab.planning.problem import PROMPT_TOKENS, Problem
from exo_lab.planning.scenarios import REFERENCE_SCENARIOS, ReferenceScenario
from exo_lab.planning.sizing import size_up

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.core.model import ModelConfig
    from exo_lab.core.topology import LinkKind, Topology
    from exo_lab.front.desk import Desk

USUAL = ("BF16", "Q8_0", "Q6_K", "Q5_0", "Q4_0")  # what is tried where nothing was asked for, the finest first
NETWORK: LinkKind = "wifi"  # between described devices, if nothing was said
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([mg])bit(?:/s)?", re.IGNORECASE)


def fit(desk: Desk, args: Namespace) -> FitView:
    """Sizing advice.

    Raises:
        ConfigError: devices, a network or a quantisation that cannot be understood.
        ModelNotFound: the model is neither known by its shape nor on this machine.
        NotConnected: no devices were described, and this process is no node.
    """
    asked = paper(desk, args)
    configs = configs_of(asked.model, args.quant)
    problem = Problem(
        config=configs[0],
        topology=asked.topology,
        context_tokens=args.context,
        prompt_tokens=args.prompt or max(1, min(PROMPT_TOKENS, args.context)),
        force=args.force,
    )
    sizing = size_up(problem, configs)
    remark = asked.scenario.remark(sizing.memory_bytes) if asked.scenario is not None and not args.devices else ""
    return FitView(sizing, on_paper=asked.on_paper, remark=remark, links=asked.topology.links)


class Paper(NamedTuple):
    """What is planned for: a model's name, devices that are described (`on_paper`) or the cluster's, a preset."""

    model: str
    topology: Topology
    on_paper: bool
    scenario: ReferenceScenario | None


def paper(desk: Desk, args: Namespace) -> Paper:
    """Model and devices as they were asked for; errors as `fit`."""
    scenario = REFERENCE_SCENARIOS[args.preset] if args.preset else None
    words = args.devices or (scenario.devices if scenario is not None else "")
    model = args.model or (scenario.model if scenario is not None else desk.defaults.model)
    there = described_topology(words, args.network) if words else _cluster(desk, args)
    return Paper(model, there, bool(words), scenario)


def configs_of(model: str, quantisations: tuple[str, ...] | None) -> list[ModelConfig]:
    """The model in every quantisation asked for, the finest first; a model's file comes as it is stored, too.

    Raises:
        ModelNotFound: neither known by its shape nor on this machine; nothing is fetched.
        ConfigError: no such quantisation.
    """
    if quantisations == ():
        raise ConfigError(f"no quantisation is asked for; there are {', '.join(QUANTISATIONS)}")
    stored = _local(model)
    shape = known(model)
    if stored is None and shape is None:
        raise ModelNotFound(
            f"{model!r} is not on this machine, and its shape is not known; nothing is fetched to find out. Fetch it "
            f"with %exo models --fetch, or name one of {', '.join(NAMES)}."
        )
    wanted = quantisations if quantisations is not None else () if stored is not None else USUAL
    for one in wanted:
        if one.upper() not in QUANTISATIONS:
            raise ConfigError(f"no quantisation {one!r}; there are {', '.join(QUANTISATIONS)}")
    finest_first = sorted({one.upper() for one in wanted}, key=lambda one: -QUANTISATIONS[one])
    if stored is not None:
        return [with_sizes(stored, one) for one in finest_first] or [stored]
    assert shape is not None
    return [config_of_shape(shape, one) for one in finest_first]


def described_topology(words: str, network: str | None) -> Topology:
    """Devices in words, joined as `network` says: a kind of link, or a rate such as "100Mbit".

    Raises:
        ConfigError: as `described`, or no such network.
    """
    from exo_lab.telemetry.chip_table import chip_table

    devices = described(words, chip_table())
    text = (network or NETWORK).strip().lower()
    if text in LINK_DEFAULTS:
        return linked(devices, cast("LinkKind", text))
    rate = _RATE.fullmatch(text)
    if rate is None or float(rate[1]) <= 0:
        raise ConfigError(f"{network!r} is no network; write {', '.join(LINK_DEFAULTS)}, or a rate such as 100Mbit")
    bits_per_s = float(rate[1]) * (1e9 if rate[2].lower() == "g" else 1e6)
    return linked(devices, "ethernet", bits_per_s / 8)


def _cluster(desk: Desk, args: Namespace) -> Topology:
    """The cluster's devices, and the links that anybody knows of."""
    from exo_lab.cluster.planning import NOBODY

    if args.network is not None:
        raise ConfigError("--network is for devices that --devices describes; a cluster's links are its own")
    cluster = desk.cluster()
    there = cluster.topology().residents
    if not there.devices:
        raise ConfigError(NOBODY)
    said = {node.device.id: node.memory_available_bytes for node in cluster.nodes()}
    return with_free_memory(there, {one: size for one, size in said.items() if size is not None})


def _local(model: str) -> ModelConfig | None:
    """The config of a model that is on this machine; None if it is not."""
    from exo_lab.models.locate import locate
    from exo_lab.models.open import open_model

    try:
        path = locate(model, offline=True)
    except ModelNotFound:
        return None
    source = open_model(str(path))
    try:
        return msgspec.structs.replace(source.config, name=model)
    finally:
        source.close()
