"""Random configurations of every native family: equal to transformers in float64 and float32, or refused by the setting's name. Oracle: transformers
loads the same folder (tests/python/random_families.py draws it)."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
import transformers

import random_families
from conftest import ROOT

DRAWS = 5
PROGRAM = Path(os.environ.get("DEEPLORA_FAMILIES", ROOT / "build" / "tests" / "deeplora_families"))


@pytest.fixture(autouse=True, scope="module")
def silent():
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(level)


@pytest.mark.parametrize("kind", random_families.KINDS)
def test_drawn_folders_are_computed_as_transformers_does_or_refused_by_name(kind, tmp_path):
    equal, seed = 0, 0
    while equal < DRAWS and seed < 10 * DRAWS:
        seed += 1
        try:
            found = random_families.compare(PROGRAM, kind, seed, tmp_path / str(seed))
        except random_families.Impossible:  # transformers makes no such model
            continue
        if "refused" in found:
            assert random_families.is_known_refusal(found["refused"]), (seed, found)
            continue
        assert random_families.is_equal(found), (seed, found)
        equal += 1
    assert equal == DRAWS, f"{kind}: only {equal} of {seed} draws could be compared"
