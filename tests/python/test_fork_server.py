"""A process forked by the server of fork_server.py ends, writes and is killed as one that was started."""
from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from conftest import ROOT
from fork_server import LIBRARY, started


@pytest.fixture(scope="module")
def both(program):
    if not LIBRARY.exists():
        pytest.skip("a build with sanitizers has no fork server")
    return [started(program), [str(program)]]


@pytest.mark.parametrize("arguments", [["--version"], ["finetun"], ["inspect", "no-such-file"],
                                       ["reference", "config"]])
def test_codes_and_streams_are_those_of_a_start(both, arguments, tmp_path):
    found = [subprocess.run([*one, *arguments], capture_output=True, text=True, cwd=tmp_path) for one in both]
    assert len({(done.returncode, done.stdout, done.stderr) for done in found}) == 1, found


def test_folder_environment_and_input_are_the_callers(both, tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20)
    monkeypatch.setenv("COLUMNS", "47")
    model = str(ROOT / "tests" / "golden" / "families" / "modernbert")
    found = [subprocess.run([*one, "inspect", model, "--json"], input="", capture_output=True, text=True, cwd=tmp_path)
             for one in both]
    assert found[0].stdout == found[1].stdout != ""
    found = [subprocess.run([*one, "predict", model, "-"], input="a\n", capture_output=True, text=True, cwd=tmp_path)
             for one in both]
    assert found[0].stderr == found[1].stderr != ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_program(both, number, tmp_path):
    """`predict -` waits for its input; a client that was killed takes its process along."""
    reading, writing = os.pipe()
    left, right = os.pipe()
    process = subprocess.Popen([*both[0], "complete", "/dev/stdin", "--print-config"], stdin=reading, stdout=right,
                               stderr=right)
    os.close(reading), os.close(right)
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(timeout=20) == -number
    with open(left, "rb") as said:  # ends when the last process that holds the stream has ended
        said.read()
    os.close(writing)
