"""llama.cpp cut over two of its RPC servers, one thread each, over loopback TCP.

`python -m benchmarks.contestants.llama_rpc MODEL 1`; needs llama-cpp-python built with GGML_RPC.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
import time
from pathlib import Path

import llama_cpp  # pyright: ignore[reportMissingImports]

from benchmarks.contestants.base import serve

SERVERS = 2
LIBRARIES = Path(str(llama_cpp.__file__)).parent / "lib"
START_TIMEOUT_S = 20.0


def _library(name: str) -> ctypes.CDLL:
    # A wheel holds copies where there were links: only the name that libllama itself asks for is the same library.
    versioned = LIBRARIES / f"lib{name}.so.0"
    return ctypes.CDLL(str(versioned if versioned.exists() else LIBRARIES / f"lib{name}.so"))


def _cpu_device() -> ctypes.c_void_p:
    find = _library("ggml").ggml_backend_dev_by_type
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_int]
    return ctypes.c_void_p(find(0))


def run_server(port: int, threads: int) -> None:
    """Serve until killed."""
    start = _library("ggml-rpc").ggml_backend_rpc_start_server
    start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    devices = (ctypes.c_void_p * 1)(_cpu_device())
    start(f"127.0.0.1:{port}".encode(), None, threads, 1, devices)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


class LlamaRpc:
    """See `Contestant`."""

    def __init__(self, model: str, threads: int) -> None:
        register = _library("ggml").ggml_backend_register
        register.argtypes = [ctypes.c_void_p]
        add = _library("ggml-rpc").ggml_backend_rpc_add_server
        add.restype, add.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        self.servers: list[subprocess.Popen[bytes]] = []
        for _ in range(SERVERS):
            port = _free_port()
            command = [sys.executable, "-m", "benchmarks.contestants.llama_rpc", "--server", str(port), str(threads)]
            self.servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
            _wait_for(port)
            register(add(f"127.0.0.1:{port}".encode()))
        self.model = llama_cpp.Llama(
            model, n_ctx=2048, n_threads=threads, n_threads_batch=threads, n_batch=512, n_gpu_layers=99, verbose=True
        )

    def prefill(self, ids: list[int]) -> None:
        """In its own batches of 512."""
        self.model.reset()
        self.model.eval(ids)
        self._finish()

    def decode(self, token: int, position: int) -> None:
        """One token."""
        self.model.eval([token])
        self._finish()

    def _finish(self) -> None:
        # eval() returns while the servers still compute; the logits are there when they are done.
        llama_cpp.llama_get_logits(self.model.ctx)

    def close(self) -> None:
        """End the client, which still talks to its servers, then the servers."""
        self.model.close()
        for server in self.servers:
            server.kill()
            server.wait(10)


if __name__ == "__main__":
    if sys.argv[1] == "--server":
        run_server(int(sys.argv[2]), int(sys.argv[3]))
    else:
        contestant = LlamaRpc(sys.argv[1], int(sys.argv[2]))
        try:
            serve(contestant)
        finally:
            contestant.close()
