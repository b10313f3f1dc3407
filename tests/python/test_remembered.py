"""Fingerprints of models that have not changed are remembered. Oracles: the file's bytes, and what the test writes into
the cache."""
from __future__ import annotations

import json
import os
import shutil
import time

import pytest


@pytest.fixture
def model(tiny_folder, tmp_path):
    """A folder of its own, old enough to be remembered."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("bert"), folder)
    time.sleep(3.1)
    return folder


def test_a_fingerprint_is_remembered_until_the_file_changes_and_verify_computes_it(run, model, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def inspect(*flags, **env):
        done = run("--verbose", *flags, "inspect", model, "--json", env={**environment, **env})
        return json.loads(done.stdout)["fingerprint"], done.stderr

    first, said = inspect()
    assert "fingerprint and finite numbers" in said and "s/GB" in said
    (entry,) = (tmp_path / "cache/deeplora").glob("*.json")
    kept = json.loads(entry.read_text())
    assert kept["found"] == first
    entry.write_text(json.dumps({**kept, "found": "0123456789abcdef"}))
    again, said = inspect()
    assert again == "0123456789abcdef" and "has not changed" in said and "s/GB" not in said
    assert inspect("--verify")[0] == first and json.loads(entry.read_text())["found"] == first
    for spoilt in ("", "[]", json.dumps({**kept, "files": kept["files"].replace("\n", "other\n", 1),
                                         "found": "0123456789abcdef"})):
        entry.write_text(spoilt)
        assert inspect()[0] == first
    assert inspect(XDG_CACHE_HOME="/proc/none")[0] == first

    weights = model / "model.safetensors"
    before = os.stat(weights)
    with open(weights, "r+b") as file:  # one bit of the last weight
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(weights).st_size == before.st_size and os.stat(weights).st_mtime_ns == before.st_mtime_ns
    changed = inspect("--verify")[0]
    assert changed != first and inspect()[0] == changed
