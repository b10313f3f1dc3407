"""Archives and programs that other versions of PyTorch wrote (tests/golden/archives, made by old_archives.py and
old_programs.py of tests/golden/make with the wheels that PyPI serves).
Oracles: the logits that the version itself computed, and today's torch.jit.load for what is merged."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")
ARCHIVES = Path(__file__).resolve().parents[1] / "golden" / "archives"
FILES = sorted(ARCHIVES.glob("*.pt"))
WHOLE = [path for path in FILES if "quantised" not in path.stem]
named = pytest.mark.parametrize("archive", WHOLE, ids=lambda path: path.stem)


def written(archive: Path) -> dict:
    version, ending = archive.stem.rpartition("-")[0], "-programs" if archive.suffix == ".pt2" else ""
    return json.loads((ARCHIVES / f"{version}{ending}.json").read_text())


def rows_of(archive: Path, path: Path) -> torch.Tensor:
    """Writes the version's rows, without their padding; returns its logits."""
    seen = written(archive)
    rows = [[i for i, keep in zip(ids, mask) if keep] for ids, mask in zip(seen["input_ids"], seen["attention_mask"])]
    path.write_text("".join(json.dumps({"input_ids": ids, "label": n % 2}) + "\n" for n, ids in enumerate(rows)))
    return torch.tensor(seen["logits"])


def predicted(run, model: Path, rows: Path) -> torch.Tensor:
    return torch.tensor([json.loads(line)["logits"] for line in run("predict", model, "--input",
        rows).stdout.splitlines()])


def finetune(run, archive: Path, rows: Path, folder: Path, adapter: str, steps: int) -> Path:
    renamed = ", inputs: {input_ids: input}" if archive.stem == "1.8.1-traced" else ""  # as tracing called it then
    (folder / "config.yaml").write_text(f"""model: {{path: {archive}{renamed}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
head: {{train: false}}
adapter: {{{adapter}}}
train: {{steps: {steps}, batch_size: 3, lr: 0.05}}
""")
    run("finetune", folder / "config.yaml", "--run", folder / "run")
    return folder / "run"


def test_the_archives_are_there():
    versions = {path.stem.split("-")[0] for path in FILES}
    assert len(versions) >= 5 and "1.8.1" in versions and len(WHOLE) >= 15


@named
def test_an_old_archive_computes_what_its_own_version_did(archive, run, tmp_path):
    expected = rows_of(archive, tmp_path / "rows.jsonl")
    folder = finetune(run, archive, tmp_path / "rows.jsonl", tmp_path, "method: none", 0)
    torch.testing.assert_close(predicted(run, folder, tmp_path / "rows.jsonl"), expected, rtol=0, atol=1e-5)


@named
def test_an_old_archive_is_adapted_trained_and_merged(archive, run, tmp_path):
    before = rows_of(archive, tmp_path / "rows.jsonl")
    folder = finetune(run, archive, tmp_path / "rows.jsonl", tmp_path, "method: lora, rank: 2, targets: all-weights",
                      12)
    after = predicted(run, folder, tmp_path / "rows.jsonl")
    assert (after - before).abs().max() > 1e-2
    run("export", folder, "--to", "torchscript", "--output", tmp_path / "merged.pt")
    merged, seen = torch.jit.load(str(tmp_path / "merged.pt")), written(archive)
    with torch.no_grad():
        logits = merged(torch.tensor(seen["input_ids"]), torch.tensor(seen["attention_mask"]))
    torch.testing.assert_close(logits, after, rtol=0, atol=1e-5)


@pytest.mark.parametrize("archive", [path for path in FILES if "quantised" in path.stem], ids=lambda path: path.stem)
def test_a_quantised_archive_is_refused_by_its_weights(archive, run, tmp_path):
    rows_of(archive, tmp_path / "rows.jsonl")
    (tmp_path / "config.yaml").write_text(f"""model: {{path: {archive}}}
data: {{task: classification, train: {tmp_path / "rows.jsonl"}}}
adapter: {{method: lora, rank: 2, targets: ['mix.0']}}
train: {{steps: 1}}
""")
    done = run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run", code=1)
    assert done.stderr.count("error: ") == 1 and "quantised" in done.stderr and not (tmp_path / "run").exists()


PROGRAMS = sorted(ARCHIVES.glob("*.pt2"))


@pytest.mark.parametrize("archive", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_of_another_version_computes_trains_and_is_merged(archive, run, tmp_path):
    before, rows, seen = rows_of(archive, tmp_path / "rows.jsonl"), tmp_path / "rows.jsonl", written(archive)
    assert len(PROGRAMS) >= 2
    torch.testing.assert_close(predicted(run, finetune(run, archive, rows, tmp_path, "method: none", 0), rows), before,
                               rtol=0, atol=1e-5)
    (tmp_path / "trained").mkdir()
    folder = finetune(run, archive, rows, tmp_path / "trained", "method: lora, rank: 2, targets: all-weights", 12)
    after = predicted(run, folder, rows)
    assert (after - before).abs().max() > 1e-2
    run("export", folder, "--output", tmp_path / "merged.pt2")
    merged = torch.export.load(str(tmp_path / "merged.pt2")).module()
    with torch.no_grad():
        logits = merged(input_ids=torch.tensor(seen["input_ids"]), attention_mask=torch.tensor(seen["attention_mask"]))
    torch.testing.assert_close(logits, after, rtol=0, atol=1e-5)
