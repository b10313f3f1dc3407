"""A few of the trials of tests/faults/faults.py, which by itself makes a hundred kills."""
from __future__ import annotations

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "faults"))
import faults  # noqa: E402


@pytest.fixture(scope="module")
def bench(program, tiny_archive, tmp_path_factory):
    return faults.Bench(program, tiny_archive("bert", "encoder"), tmp_path_factory.mktemp("faults"), seed=7, steps=24)


@pytest.mark.parametrize("name, kills", [("finetune", 5), ("ratings", 2)])
def test_killed_runs_end_with_the_same_bits(name, kills, bench):
    done, finished = faults.kill_job(bench, name, kills)
    assert done >= kills and finished >= 1


@pytest.mark.parametrize("name", ["disk", "readonly", "two"])
def test_trial(name, bench):
    said = faults.TRIALS[name](bench, 10)
    if said.startswith("left out"):
        pytest.skip(said)
