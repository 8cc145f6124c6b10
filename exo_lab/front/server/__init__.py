"""The Jupyter Server extension: facts that need no kernel, over authenticated REST and a web socket.

`jupyter_server` finds it through `exo_lab._jupyter_server_extension_points` and the file `exo_lab.json` beside this
one, which the wheel puts into `etc/jupyter/jupyter_server_config.d`. One setting: `c.ExoLab.peers = "peers.toml"`.
"""

from __future__ import annotations

from typing import Any

from exo_lab import __version__ as __version__


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Called by the server once, at its start."""
    from exo_lab.front.server import handlers
    from exo_lab.front.server.desk import ServerDesk

    peers = serverapp.config.get("ExoLab", {}).get("peers", "")
    handlers.add(serverapp.web_app, ServerDesk(serverapp.root_dir, str(peers)))
    serverapp.log.info("exo_lab %s answers below %s", __version__, serverapp.base_url)
