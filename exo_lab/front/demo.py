"""`exo-lab demo`: three kernels, a real model cut over them, an answer, and the proof that cutting changed nothing.

Everything that it prints was measured while it ran.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from exo_lab.cluster import DEFAULT_MODEL, connect
from exo_lab.front.text import clean, clean_name
from exo_lab.front.units import show_bytes, show_count, show_layers, show_rate, show_seconds
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster
    from exo_lab.core.status import LoadedModel
    from exo_lab.generation import Generation

PROMPT = "What is the capital of France? Answer in one sentence, then name a river that flows through it."
KERNELS = 3
MAX_TOKENS = 64


def run(prompt: str = PROMPT, kernels: int = KERNELS, console: Console | None = None) -> int:
    """Run the demo; the process's exit status: 0, or 1 if the cut model said something else than the uncut one."""
    out = console or Console()
    # With a secret of its own it is a cluster of its own: names and plans of what else runs here are left alone.
    with connect("demo", threads=1, token=new_token()) as cluster:
        out.print(f"[bold]1.[/bold] Starting {show_count(kernels, 'kernel')} on this machine, each a node of its own")
        started = time.perf_counter()
        nodes = cluster.up(kernels, threads=1)
        names = [node.device.name for node in nodes]
        out.print(f"   {', '.join(map(clean_name, names))}: up in {show_seconds(time.perf_counter() - started)}")

        out.print(f"[bold]2.[/bold] Cutting {DEFAULT_MODEL} by layers over them")
        loaded = _load(cluster, names, out)
        _show_plan(cluster, loaded, out)

        out.print(f"[bold]3.[/bold] Asking: {clean(prompt)}")
        answer = _stream(cluster.generate(prompt, max_tokens=MAX_TOKENS), out)
        _show_figures(answer, out)

        out.print("[bold]4.[/bold] The same question to the uncut model, on this process alone")
        _load(cluster, [cluster.name], out)
        whole = cluster.generate(prompt, max_tokens=MAX_TOKENS).result()
        same = [event.token for event in whole.tokens] == [event.token for event in answer.tokens]
        if same:
            out.print(f"   [green]the same {show_count(len(answer.tokens), 'token')}[/green], one by one")
        else:
            out.print(f"   [red]another answer[/red]: {clean(whole.text)}")
    out.print(
        "\nNext: [bold]make lab[/bold] opens the first lesson; in any notebook, [bold]%load_ext exo_lab[/bold], then"
    )
    out.print(
        "[bold]%exo connect[/bold], [bold]%exo up 3[/bold], [bold]%exo load[/bold], and a cell that starts with %%exo."
    )
    return 0 if same else 1


def _load(cluster: Cluster, names: list[str], out: Console) -> LoadedModel:
    columns = (TextColumn("   {task.description}"), BarColumn(bar_width=24), DownloadColumn(binary_units=True))
    with Progress(*columns, console=out, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(node: str, done: int, total: int, what: str) -> None:
            if node not in tasks:
                tasks[node] = bars.add_task(clean_name(node), total=None)
            bars.update(
                tasks[node], completed=done, total=total or None, description=f"{clean_name(node)} {clean(what, 40)}"
            )

        return cluster.load(DEFAULT_MODEL, devices=names, progress=progress)


def _show_plan(cluster: Cluster, loaded: LoadedModel, out: Console) -> None:
    names = {node.device.id: node.device.name for node in cluster.nodes()}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("   stage", "node", "layers", "weights in the file"):
        table.add_column(column, justify="right" if column.startswith("weights") else "left")
    for stage, (device, shard) in enumerate(zip(loaded.plan.devices, loaded.plan.shards, strict=True)):
        ends = " + embedding" * shard.is_first + " + head" * shard.is_last
        size = show_bytes(loaded.config.shard_bytes(shard.start, shard.end))
        table.add_row(f"   {stage}", clean_name(names[device]), show_layers(shard.start, shard.end) + ends, size)
    out.print(table)


def _stream(generation: Generation, out: Console) -> Generation:
    out.print("   ", end="")
    for piece in generation:
        out.print(piece, end="", markup=False, highlight=False)
    out.print()
    return generation


def _show_figures(generation: Generation, out: Console) -> None:
    stats = generation.stats
    figures = [show_count(stats.tokens, "token")]
    if stats.ttft_s is not None:
        figures.append(f"first after {show_seconds(stats.ttft_s)}")
    if stats.tokens_per_s is not None:
        figures.append(show_rate(stats.tokens_per_s))
    out.print(f"   [dim]{' · '.join(figures)} (measured)[/dim]")
