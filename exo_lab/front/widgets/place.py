"""Which front end shows an output, as far as a kernel can tell from its environment: a guess."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from exo_lab.front.comm import in_kernel

if TYPE_CHECKING:
    from collections.abc import Collection

Place = Literal["jupyter", "vscode", "colab", "terminal"]

_PICTURE = "A picture of the moment at which this cell ran"
STILL: dict[Place, str] = {
    "jupyter": f"{_PICTURE}. In JupyterLab with exo_lab it is live.",
    "vscode": f"{_PICTURE}: VS Code does not show the live view. Run the cell again for another one.",
    "colab": f"{_PICTURE}: Colab does not show the live view. Run the cell again for another one.",
    "terminal": "",
}
NO_EXTENSION: frozenset[Place] = frozenset({"vscode", "colab"})  # JupyterLab's cannot be installed there


def place(
    environment: Collection[str] = os.environ, modules: Collection[str] = sys.modules, kernel: bool | None = None
) -> Place:
    """Where outputs of this process are shown.

    Args:
        environment: names of environment variables.
        modules: names of modules that are imported.
        kernel: is this a kernel? Found out if None.
    """
    if not (in_kernel() if kernel is None else kernel):
        return "terminal"
    if "google.colab" in modules or "COLAB_RELEASE_TAG" in environment:
        return "colab"
    return "vscode" if "VSCODE_PID" in environment or "VSCODE_CWD" in environment else "jupyter"
