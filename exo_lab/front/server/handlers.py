"""The routes: authenticated, authorised, JSON. Thin; what they say is found out by `looking`, off the loop.

`GET exo-lab/api/{version,nodes,models,doctor,lessons,bokeh}` and the web socket `exo-lab/api/watch`. Nothing a
request says reaches a file name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.websocket import WebSocketHandler

from exo_lab.front.server import looking
from exo_lab.front.server.answers import SERVER_BASE
from exo_lab.front.server.errands import Late

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.front.server.desk import ServerDesk

LOOK_TIMEOUT_S = 10.0
DOCTOR_TIMEOUT_S = 45.0  # the doctor has 30 s of its own
RESOURCE = "exo_lab"
MESSAGE_BYTES = 1024  # nothing that a front end sends is read
_DESK = "exo_lab_desk"


class _Answering(APIHandler):
    """One question; answers with a struct as JSON."""

    auth_resource = RESOURCE
    question = ""
    timeout_s = LOOK_TIMEOUT_S

    def work(self) -> Callable[[], msgspec.Struct]:
        """What to do in a thread."""
        raise NotImplementedError

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The answer; 503 if it is not there by its deadline."""
        desk: ServerDesk = self.settings[_DESK]
        try:
            answer = await desk.errands.run(self.question, self.work(), self.timeout_s)
        except Late as exc:
            raise web.HTTPError(503, str(exc)) from exc
        self.finish(msgspec.json.encode(answer))


class VersionHandler(_Answering):
    """Who answers."""

    question = "version"

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        return looking.version


class NodesHandler(_Answering):
    """Nodes that this machine knows."""

    question = "nodes"

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        desk: ServerDesk = self.settings[_DESK]
        return lambda: looking.nodes(desk.peers())


class ModelsHandler(_Answering):
    """Models in the cache."""

    question = "models"

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        return looking.models


class DoctorHandler(_Answering):
    """The doctor's findings."""

    question = "doctor"
    timeout_s = DOCTOR_TIMEOUT_S

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        return looking.doctor


class LessonsHandler(_Answering):
    """The lessons, whole: which one is wanted, the front end knows."""

    question = "lessons"

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        return looking.lessons


class BokehHandler(_Answering):
    """BokehJS, for a page that shows charts and was not there when the kernel sent it."""

    question = "bokeh"

    def work(self) -> Callable[[], msgspec.Struct]:
        """See `looking`."""
        return looking.bokeh


class WatchHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """Facts at once and on every change, for as long as somebody listens."""

    auth_resource = RESOURCE

    @property
    def max_message_size(self) -> int:
        """In bytes; larger ones close the socket."""
        return MESSAGE_BYTES

    @ws_authenticated
    @authorized
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Turn the request into a web socket."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """A front end listens."""
        super().open(*args, **kwargs)
        self.settings[_DESK].watch.add(self.tell)

    def tell(self, text: str) -> None:
        """Send, if there is anybody left."""
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.write_message(text)

    def on_message(self, message: str | bytes) -> None:
        """Nothing is asked here; what comes is dropped."""

    def on_close(self) -> None:
        """The front end went away."""
        self.settings[_DESK].watch.discard(self.tell)
        super().on_close()


HANDLERS = {
    "version": VersionHandler,
    "nodes": NodesHandler,
    "models": ModelsHandler,
    "doctor": DoctorHandler,
    "lessons": LessonsHandler,
    "bokeh": BokehHandler,
    "watch": WatchHandler,
}


def add(app: web.Application, desk: ServerDesk) -> None:
    """Put the routes into a server."""
    app.settings[_DESK] = desk
    base = app.settings["base_url"]
    app.add_handlers(".*$", [(url_path_join(base, SERVER_BASE, name), kind) for name, kind in HANDLERS.items()])
