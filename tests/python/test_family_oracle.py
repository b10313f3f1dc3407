"""Random configurations of every native family: equal to transformers in float64 and float32, or refused by the
setting's name. Oracle: transformers loads the same folder (tests/python/random_families.py draws it)."""
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
from test_class_heads import model_of

DRAWS = int(os.environ.get("DEEPLORA_DRAWS", 5))
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
# two samples of one distribution are further apart less than once in a million times: 2 exp(-0.1^2 1500)
PASSES, LARGEST = 1500, 0.1


def sums_in_training_mode(model, inputs, weights, copies):
    """One number for each pass, `copies` of them computed as rows of one batch, whose dropouts are independent."""
    many = {name: value.repeat(copies, 1) for name, value in inputs.items()}
    torch.manual_seed(11)
    with torch.no_grad():
        return [one for _ in range(PASSES // copies)
                for one in (model(**many)[0].unflatten(0, (copies, -1)) * weights).double().sum((1, 2, 3)).tolist()]


def expect_one_distribution(folder, model, width, copies):
    """A dropout too many or too few, or at another place, is another distribution."""
    from scipy.stats import ks_2samp

    generator = torch.Generator().manual_seed(2)
    inputs = {"input_ids": torch.randint(4, 40, (2, 9), generator=generator), "attention_mask": torch.ones(2, 9,
        dtype=torch.long)}
    weights = torch.randn(2, 9, width, generator=generator)
    safetensors.torch.save_file({**inputs, "weights": weights}, folder / "inputs.safetensors")
    subprocess.run([PROGRAM, "drops", folder, folder / "inputs.safetensors", folder / "out.safetensors", str(PASSES)],
                   check=True, capture_output=True)
    ours = safetensors.torch.load_file(folder / "out.safetensors")["sums"].tolist()
    theirs = sums_in_training_mode(model.train(), inputs, weights, copies)
    assert len(theirs) == PASSES and max(theirs) - min(theirs) > 1e-2
    assert ks_2samp(ours, theirs).statistic < LARGEST, (sum(ours) / PASSES, sum(theirs) / PASSES)


@pytest.mark.parametrize("kind, dropout", [(kind, name) for kind, names in DROPOUTS.items() for name
                                           in [*names, "all"]])
def test_outputs_in_training_mode_are_distributed_as_those_of_transformers(kind, dropout, tmp_path):
    golden = ROOT / "tests" / "golden" / "families" / kind
    settings = json.loads((golden / "config.json").read_text())
    settings |= {name: 0.3 if dropout in (name, "all") else 0.0 for name in DROPOUTS[kind]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes((golden / "model.safetensors").read_bytes())
    model = getattr(transformers, random_families.KINDS[kind][0]).from_pretrained(tmp_path, attn_implementation="eager")
    # DeBERTa's table of distances is shared by a batch's rows, and so is its dropout.
    expect_one_distribution(tmp_path, model, settings["hidden_size"], 1 if kind == "deberta-v2"
                            and settings["hidden_dropout_prob"] > 0 else 50)


NO_DROPOUT = {"bert": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
              "mpnet": ["attention_probs_dropout_prob"],
              "gpt2": ["resid_pdrop", "embd_pdrop", "attn_pdrop"], "llama": []}


@pytest.mark.parametrize("kind", NO_DROPOUT)
def test_heads_for_tokens_drop_as_those_of_transformers(kind, tmp_path):
    settings = {**dict.fromkeys(NO_DROPOUT[kind], 0.0), "hidden_dropout_prob" if kind == "mpnet"
                else "classifier_dropout": 0.3}
    model = model_of(kind, "ForTokenClassification", num_labels=3, **settings)
    model.save_pretrained(tmp_path)
    expect_one_distribution(tmp_path, model, 3, 50)
