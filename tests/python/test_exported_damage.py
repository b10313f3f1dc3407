"""Exported programs whose JSON was changed at random: inspected, or refused in one line; never a crash, a message of
LibTorch's, or memory out of proportion."""
from __future__ import annotations

import copy
import json
import os
import random
import zipfile

import pytest

from test_exported_programs import Encoder, program_of, rewritten, saved

pytestmark = pytest.mark.filterwarnings("ignore")
DRAWS = int(os.environ.get("DEEPLORA_DRAWS", 12))
RECORDS = ["models/model.json"] * 3 + ["data/weights/model_weights_config.json"]
VALUES = [None, True, -1, 0, 3, 1 << 40, 1 << 70, 0.5, "", "x", "p_fc_weight", "NaN", [], {}, [[]], {"as_int": -7},
          {"as_ints": [1, -1]}, {"as_tensor": {"name": "linear"}},
          {"as_float": "Infinity"}, {"as_none": []}, {"as_string": "relu"}, {"as_bool": True}, {"as_scalar_type": 99},
          {"as_device": {"type": "cuda", "index": 900}}]


def places_of(value, path=()):
    """Paths of everything inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places_of(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(program: dict, rng: random.Random) -> dict:
    """One to three places hold something else: nothing, a value of another kind, or what stands elsewhere in the
    program."""
    program = copy.deepcopy(program)
    for _ in range(rng.randint(1, 3)):
        places = list(places_of(program))
        path = rng.choice(places)
        holder = at(program, path[:-1])
        kind = rng.randrange(4)
        if kind == 0:
            del holder[path[-1]]
        elif kind == 1:
            holder[path[-1]] = copy.deepcopy(at(program, rng.choice(places)))
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return program


@pytest.mark.parametrize("seed", range(DRAWS))
def test_changed_at_random(seed, run, tmp_path):
    rng, record = random.Random(seed), RECORDS[seed % len(RECORDS)]
    path = saved(tmp_path, program_of(Encoder()))
    with zipfile.ZipFile(path) as archive:
        program = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith(record))))
    text = json.dumps(changed(program, rng))
    rewritten(path, tmp_path / "changed.pt2", lambda name, content: text if name == record else content)
    done = run("inspect", tmp_path / "changed.pt2", code=None, timeout=60)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 0 or (done.returncode == 1 and len(errors) == 1), (seed, done.returncode, done.stderr)
    assert "Exception raised from" not in done.stderr and "INTERNAL ASSERT" not in done.stderr, (seed, done.stderr)
