"""Work of more than two seconds is shown on a terminal, and nowhere else: a pseudo-terminal reads what a person would
see."""
from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

HELPER = Path(os.environ.get("DEEPLORA_BASE_HELPER", ROOT / "build/tests/deeplora_base_helper"))


def on_terminal(command, **environment) -> str:
    """What the command writes to a terminal as its standard error."""
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RANK", "WORLD_SIZE"))}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=env | {"TERM": "xterm"}
                               | environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0
    return said.decode("utf-8")


def kept_lines(said: str) -> list[str]:
    """The lines that stay on the screen when everything is done."""
    lines, line = [], ""
    for part in re.split(r"(\r\n|\r|\x1b\[K)", said):
        if part == "\r\n":
            lines.append(line)
            line = ""
        elif part == "\r":
            line = ""  # whatever is written next begins at the left; what it does not cover is cleared
        elif part != "\x1b[K":
            line += part
    return lines + [line]


def test_a_terminal_shows_the_innermost_work_and_keeps_only_what_was_said():
    said = on_terminal([HELPER, "long-work"])
    frames = [frame for frame in re.split(r"\r|\x1b\[K", said) if frame.strip()]
    shown = [frame for frame in frames if "tokenizing rows [" in frame]
    assert any("40/100" in frame for frame in shown) and any("90/100" in frame for frame in shown)
    assert frames.index("a line of the log") > frames.index(shown[0])
    after = frames[frames.index(shown[-1]):]
    assert any(re.fullmatch(r"reading the model  0:0[3-9]", frame) for frame in after), after
    bars = [i for i, frame in enumerate(frames) if frame.startswith("train ")]
    assert all(frame.startswith("train ") for frame in frames[bars[0]:bars[-1]]), "drawn into a bar of its own"
    kept = kept_lines(said)
    assert kept[0] == "a line of the log" and kept[1].startswith("train [") and "".join(kept[2:]) == ""


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                                                            "MASTER_PORT": "1"}],
                         ids=["dumb terminal", "a process that follows"])
def test_nothing_is_shown_where_nobody_looks(environment):
    said = on_terminal([HELPER, "long-work"], **environment)
    assert "tokenizing" not in said and "reading" not in said and "a line of the log\r\n" in said


def test_a_pipe_gets_the_log_alone():
    done = subprocess.run([HELPER, "long-work"], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0] == "a line of the log" and "\r" not in done.stderr and "\x1b" not in done.stderr
    assert "tokenizing" not in done.stderr
