"""A real kernel, driven as a notebook drives it."""

from __future__ import annotations

import json
import queue
import time

WITHIN_S = 60.0


class Notebook:
    """A kernel and its client. `run` executes a cell and returns what it printed and its status."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WITHIN_S)

    def start(self, code: str) -> str:
        return self.client.execute(code)

    def messages(self, request: str):
        """Output messages of a cell until it is idle."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1.0)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            yield message
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return
        raise AssertionError("the cell did not end in time")

    def reply(self, request: str) -> dict:
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            message = self.client.get_shell_msg(timeout=WITHIN_S)
            if message["parent_header"]["msg_id"] == request:
                return message["content"]
        raise AssertionError("no reply")

    def run(self, code: str) -> tuple[str, str]:
        request = self.start(code)
        text = ""
        for message in self.messages(request):
            content = message["content"]
            text += content.get("text", "") if message["msg_type"] == "stream" else ""
            text += content.get("data", {}).get("text/plain", "")
            text += "\n".join(content.get("traceback", []))
        return text, self.reply(request)["status"]

    def value(self, expression: str):
        text, status = self.run(f"import json\nprint(json.dumps({expression}))")
        assert status == "ok", text
        return json.loads(text.strip().splitlines()[-1])

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


class PanelLine:
    """The panel's comm, opened on a subshell of its own as JupyterLab does."""

    def __init__(self, notebook: Notebook) -> None:
        self.client = notebook.client
        control = self.client.control_channel
        control.send(self.client.session.msg("create_subshell_request", {}))
        self.subshell = self.client.get_control_msg(timeout=WITHIN_S)["content"]["subshell_id"]
        self.send("comm_open", {}, target_name="exo_lab.panel")

    def send(self, kind: str, data: dict, **more: str) -> None:
        message = self.client.session.msg(kind, {"comm_id": "a-panel", "data": data, **more})
        message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def hear(self, kind: str) -> dict:
        """The next message of this kind."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=WITHIN_S)
            data = message["content"].get("data", {}) if message["msg_type"] == "comm_msg" else {}
            if data.get("type") == kind:
                return data
        raise AssertionError(f"nothing of kind {kind} was heard")
