"""Loading into IPython and leaving it as it was: magics, completion, and how our values show themselves.

With the extension loaded, `cluster.status()` in a cell looks like `%exo status`: cells and Python are one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.core.status import ClusterStatus, LoadedModel, PlanPreview, residents
from exo_lab.front import panel_cluster, panel_target
from exo_lab.front.completion import complete
from exo_lab.front.views import PlanView, StatusView, generation_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.front.magics import ExoMagics
    from exo_lab.front.options import Words
    from exo_lab.generation import Generation

KEYS = ("%exo", "%%exo")
_GENERATION = ("exo_lab.generation", "Generation")  # by name: to load it is to load what it stands on


def load(shell: Any, magics_class: type[ExoMagics]) -> None:
    """Register everything. Does nothing if it is registered already."""
    if magics_class.__name__ in shell.magics_manager.registry:
        return
    magics = magics_class(shell)
    shell.register_magics(magics)

    def completer(shell_: Any, event: Any) -> list[str]:
        return complete(event.text_until_cursor, lambda kind: words(kind, magics))

    for key in KEYS:
        shell.set_hook("complete_command", completer, str_key=key)
    formatter = shell.display_formatter.mimebundle_formatter
    for kind, show in _formats(magics).items():
        formatter.for_type(kind, show)
    formatter.for_type_by_name(*_GENERATION, lambda value: _show_generation(magics, value))
    panel_target.register(panel_cluster.Current(magics.present), shell)


def unload(shell: Any, magics_class: type[ExoMagics]) -> None:
    """Leave the cluster and take everything back. Does nothing if nothing is registered."""
    magics = shell.magics_manager.registry.pop(magics_class.__name__, None)
    if magics is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("exo", None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    for key in KEYS:
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    formatter = shell.display_formatter.mimebundle_formatter
    for kind in _formats(magics):
        formatter.pop(kind, None)
    formatter.pop(".".join(_GENERATION), None)
    panel_target.unregister()
    present = magics.present()
    if present is not None:
        present.close()


def words(kind: Words, magics: ExoMagics) -> Sequence[str]:
    """What a value can be: names of nodes, models, strategies, files."""
    present = magics.present()
    match kind:
        case "node":
            return [node.device.name for node in residents(present.nodes())] if present is not None else []
        case "model":
            from exo_lab.models.locate import WHEELS, cached_models

            loaded = [model.plan.model for model in present.models()] if present is not None else []
            return sorted({*loaded, *WHEELS, *(model.name for model in cached_models())})
        case "strategy":
            from exo_lab.planning.choose import STRATEGIES

            return STRATEGIES
        case "file":
            from pathlib import Path

            return sorted(path.name for path in Path().glob("*.toml"))
        case _:
            return []


def _formats(magics: ExoMagics) -> dict[type, Callable[[Any], dict[str, str]]]:
    """How our values show themselves, as MIME bundles."""

    def devices() -> list[Any]:
        present = magics.present()
        return [node.device for node in present.nodes()] if present is not None else []

    return {
        ClusterStatus: lambda value: StatusView(value).bundle(),
        PlanPreview: lambda value: PlanView.of_preview(value).bundle(),
        LoadedModel: lambda value: PlanView.of_loaded(value, devices()).bundle(),
    }


def _show_generation(magics: ExoMagics, value: Generation) -> dict[str, str]:
    present = magics.present()
    if present is None:
        return generation_view(value).bundle()
    return generation_view(value, [node.device for node in present.nodes()], present.models()).bundle()
