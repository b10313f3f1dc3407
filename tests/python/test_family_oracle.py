"""Random configurations of every native family: equal to transformers in float64 and float32, or refused by the setting's name. Oracle: transformers
loads the same folder (tests/python/random_families.py draws it)."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import safetensors.torch
import torch
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


# Kinds of dropout that a configuration names, in families whose archives have no head to train with.
DROPOUTS = {"modernbert": ["embedding_dropout", "attention_dropout", "mlp_dropout"],
            "deberta-v2": ["hidden_dropout_prob", "attention_probs_dropout_prob"]}
PASSES = 600


@pytest.mark.parametrize("kind, dropout", [(kind, name) for kind, names in DROPOUTS.items() for name in [*names, "all"]])
def test_outputs_in_training_mode_are_distributed_as_those_of_transformers(kind, dropout, tmp_path):
    """A dropout too many or too few, or at another place, is another distribution: two samples of one differ by more than 0.11 once in 1000 times."""
    from scipy.stats import ks_2samp

    golden = ROOT / "tests" / "golden" / "families" / kind
    settings = json.loads((golden / "config.json").read_text())
    settings |= {name: 0.3 if dropout in (name, "all") else 0.0 for name in DROPOUTS[kind]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes((golden / "model.safetensors").read_bytes())
    generator = torch.Generator().manual_seed(2)
    inputs = {"input_ids": torch.randint(4, 40, (2, 9), generator=generator), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    weights = torch.randn(2, 9, settings["hidden_size"], generator=generator)
    safetensors.torch.save_file({**inputs, "weights": weights}, tmp_path / "inputs.safetensors")
    subprocess.run([PROGRAM, "drops", tmp_path, tmp_path / "inputs.safetensors", tmp_path / "out.safetensors", str(PASSES)], check=True, capture_output=True)
    ours = safetensors.torch.load_file(tmp_path / "out.safetensors")["sums"].tolist()
    model = getattr(transformers, random_families.KINDS[kind][0]).from_pretrained(tmp_path, attn_implementation="eager").train()
    torch.manual_seed(11)
    with torch.no_grad():
        theirs = [(model(**inputs).last_hidden_state * weights).double().sum().item() for _ in range(PASSES)]
    assert max(theirs) - min(theirs) > 1e-2
    assert ks_2samp(ours, theirs).statistic < 0.11, (sum(ours) / PASSES, sum(theirs) / PASSES)
