"""What tests in a browser need: chromium, node, the built extension; and a way to run a script of ui-tests/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LABEXTENSION = ROOT / "labextension"
BUILT = ROOT / "exo_lab" / "labextension"
WITHIN_S = 300

MISSING = [
    what
    for what, there in (
        ("chromium", shutil.which("chromium")),
        ("node", shutil.which("node")),
        ("npm ci in labextension/", (LABEXTENSION / "node_modules" / "playwright-core").exists()),
        ("npm run build:prod in labextension/", (BUILT / "static" / "style.js").exists()),
    )
    if not there
]


def node(*arguments: str) -> str:
    done = subprocess.run(
        ["node", *arguments], cwd=LABEXTENSION, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
