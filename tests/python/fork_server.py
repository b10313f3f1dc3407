"""started(PROGRAM): how to start one of our programs many times while LibTorch is loaded once.

A start of the program costs a quarter of a second, and these tests need thousands. tests/fork_server/server.cpp, loaded
into one process of the program, forks a new one for every request of tests/fork_server/client.cpp.
"""
from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

BUILT = Path(__file__).resolve().parents[2] / "build" / "tests"
CLIENT, LIBRARY = BUILT / "deeplora_forked", BUILT / "libdeeplora_fork_server.so"
# What libraries read when they are loaded: another value needs a start of its own.
AT_LOAD = ("ATEN_", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_")


def at_load(environment) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_LOAD)}


class ForkServer:
    """The server of one program, which ends with this process."""

    def __init__(self, program: Path):
        self._folder = tempfile.TemporaryDirectory(prefix="deeplora-fork-")
        self.socket = Path(self._folder.name) / "socket"
        self.environment = at_load(os.environ)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, env={
            **os.environ, "LD_PRELOAD": str(LIBRARY), "DEEPLORA_FORK_SERVER": str(self.socket),
            "DEEPLORA_FORK_CLIENT": str(CLIENT)})
        atexit.register(self.close)
        while not self.socket.exists():
            if self._process.poll() is not None:
                raise RuntimeError(f"{program} did not start with {LIBRARY}")
            time.sleep(0.01)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


servers: dict[Path, ForkServer] = {}
one_at_a_time = threading.Lock()


def server(program: Path) -> ForkServer:
    with one_at_a_time:
        if program not in servers:
            servers[program] = ForkServer(program)
        return servers[program]


def started(program: Path | str, environment=os.environ) -> list[str]:
    """The first words of a command that runs `program` in `environment`, by a server where one can be had (none under
    sanitizers)."""
    if not LIBRARY.exists() or os.environ.get("DEEPLORA_FORK_SERVER") == "off":
        return [str(program)]
    at = server(Path(program))
    return [str(CLIENT), str(at.socket), str(program)] if at_load(environment) == at.environment else [str(program)]
