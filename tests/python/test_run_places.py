"""Runs that are used from another folder, and after they, their model or their data have moved. The oracle is the run
where it was made."""
from __future__ import annotations

import json
import shutil

import pytest

from test_finetune import rows  # noqa: F401  (a fixture)
from test_resume import tree

CONFIG = """model: {path: models/m.pt, dropout: 0}
data: {task: classification, train: rows/train.jsonl, dev: rows/dev.jsonl, test: rows/test.jsonl, max_length: 24}
adapter: {method: lora, rank: 2}
train: {steps: 6, batch_size: 8, eval_every: 3, log_every: 1, seed: 5, lr: 1e-3}
"""


@pytest.fixture(scope="module")
def made(run, tiny_archive, tiny_folder, rows, tmp_path_factory):  # noqa: F811
    """A project folder with models, rows and a finished run, everything named relatively; copy it, do not change it."""
    home = tmp_path_factory.mktemp("made")
    for name in ("models", "rows"):
        (home / name).mkdir()
    shutil.copy(tiny_archive("bert", "encoder"), home / "models/m.pt")
    shutil.copytree(tiny_folder("bert"), home / "models/folder")
    for split in ("train", "dev", "test"):
        shutil.copy(rows["classification", split], home / f"rows/{split}.jsonl")
    (home / "c.yaml").write_text(CONFIG)
    run("finetune", "c.yaml", "--run", "runs/r", cwd=home)
    return home


@pytest.fixture()
def home(made, tmp_path):
    return shutil.copytree(made, tmp_path / "home")


@pytest.fixture()
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def expected(run, made):
    """What the run says where it was made."""
    return use(run, made / "runs/r", made)


def use(run, folder, cwd, *options, code=0):
    """Scores on data.test, a prediction, and the bytes of an exported adapter."""
    done = run("evaluate", folder, "--json", *options, cwd=cwd, code=code)
    if code:
        return done
    scores = json.loads(done.stdout)
    assert scores.pop("file").endswith("test.jsonl")
    predicted = run("predict", folder, "--text", "good bad fine", *options, cwd=cwd).stdout
    out = cwd / "exported"
    run("export", folder, "--to", "safetensors", "--output", out, *options, cwd=cwd)
    weights = (out / "model.safetensors").read_bytes()
    shutil.rmtree(out)
    return scores, predicted, weights


def stop_early(run, home, *settings):
    """runs/stopped: the run of c.yaml as it is after its first checkpoint; and the adapter that it ends with."""
    run("finetune", "c.yaml", "--run", "runs/stopped", *settings, cwd=home)
    folder = home / "runs/stopped"
    adapter = (folder / "adapter.safetensors").read_bytes()
    shutil.rmtree(sorted((folder / "checkpoints").iterdir())[-1])
    for name in ("result.json", "adapter.safetensors", "last.safetensors"):
        (folder / name).unlink()
    return adapter


def test_a_run_remembers_its_files_by_key(home):
    places = json.loads((home / "runs/r/places.json").read_text())
    assert set(places) == {"model.path", "data.train", "data.dev", "data.test"}
    assert places["model.path"]["names"] == ["models/m.pt"] and places["model.path"]["from_run"] == "../../models/m.pt"
    assert places["model.path"]["absolute"].endswith("/models/m.pt") and places["model.path"]["absolute"].startswith(
        "/")


def test_from_another_folder(run, home, elsewhere, expected):
    assert use(run, home / "runs/r", elsewhere) == expected
    assert use(run, "../home/runs/r/", elsewhere) == expected  # the slash at the end is no part of a name
    inside = home / "runs/r"
    assert use(run, ".", inside) == expected


def test_folder_and_model_moved_together(run, home, tmp_path, expected):
    shutil.move(home, tmp_path / "new home")  # a space, too
    assert use(run, tmp_path / "new home/runs/r", tmp_path) == expected


def test_only_the_run_folder_moved(run, home, elsewhere, expected, made):
    # Made anew in this home: the copy remembers the home that it was copied from.
    run("finetune", "c.yaml", "--run", "runs/here", cwd=home)
    shutil.move(home / "runs/here", elsewhere / "r")
    assert use(run, elsewhere / "r", elsewhere) == expected


def gone(home):
    """The run made here, and its model moved to a place that nobody knows."""
    shutil.move(home / "models", home / "moved")
    text = (home / "runs/r/places.json").read_text()
    places = json.loads(text)
    for place in places.values():  # the copy remembers where it was copied from
        place["absolute"] = str(home / place["names"][0])
    (home / "runs/r/places.json").write_text(json.dumps(places))


def test_only_the_model_moved(run, home, elsewhere, expected):
    gone(home)
    before = tree(home / "runs/r")
    done = use(run, home / "runs/r", elsewhere, code=1)
    assert done.stderr.count("error: ") == 1 and len(done.stderr.strip().splitlines()) == 1
    for part in ("model models/m.pt", "does not exist", "home/models/m.pt", "--model"):
        assert part in done.stderr, done.stderr
    assert use(run, home / "runs/r", elsewhere, "--model", home / "moved/m.pt") == expected
    assert tree(home / "runs/r") == before


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "--text", "good"), ("export", "--to", "safetensors",
    "--output", "x")])
def test_a_model_with_other_weights_is_refused(command, run, home, tiny_archive):
    done = run(command[0], "runs/r", *command[1:], "--model", tiny_archive("roberta", "encoder"), cwd=home, code=1)
    task = json.loads((home / "runs/r/task.json").read_text())
    assert task["fingerprint"] in done.stderr and "roberta" in done.stderr and "--model" in done.stderr and not (
        home / "x").exists()
    assert "does not exist" in run(command[0], "runs/r", *command[1:], "--model", "nowhere.pt", cwd=home, code=1).stderr


def test_of_two_models_the_one_with_the_fingerprint_is_taken(run, home, tiny_archive, expected):
    """Beside the run lies another model now; the one that it was trained on is where it was."""
    shutil.copy(tiny_archive("roberta", "encoder"), home / "models/m.pt")
    assert use(run, "runs/r", home) == expected


def test_a_typed_configuration_means_the_model_that_lies_here(run, home, tiny_archive):
    shutil.copy(tiny_archive("roberta", "encoder"), home / "models/m.pt")
    before = tree(home / "runs/r")
    assert "weights of the model was" in run("finetune", "c.yaml", "--run", "runs/r", "--resume", cwd=home,
                                             code=1).stderr
    assert tree(home / "runs/r") == before


def test_a_name_that_is_typed_means_what_lies_here(run, home, elsewhere):
    """data.test=rows/test.jsonl of another folder is that folder's, not the run's."""
    (elsewhere / "rows").mkdir()
    lines = (home / "rows/test.jsonl").read_text().splitlines(True)
    (elsewhere / "rows/test.jsonl").write_text("".join(lines[:3]))
    count = lambda *options: json.loads(run("evaluate", home / "runs/r", "--json", *options, cwd=elsewhere).stdout)[
        "rows"]  # noqa: E731
    assert count() == len(lines) and count("--set", "data.test=rows/test.jsonl") == 3 and count("--data",
        "rows/test.jsonl") == 3


def test_missing_rows_say_where_was_looked(run, home, elsewhere):
    gone(home)
    shutil.move(home / "moved", home / "models")
    (home / "rows/test.jsonl").unlink()
    done = run("evaluate", home / "runs/r", cwd=elsewhere, code=1)
    assert "data.test rows/test.jsonl" in done.stderr and "does not exist" in done.stderr and "--data" in done.stderr
    done = run("finetune", "--run", home / "runs/r", "--resume", cwd=elsewhere, code=1)
    assert "data.test rows/test.jsonl" in done.stderr and "--set data.test=FILE" in done.stderr


def test_runs_of_earlier_versions_open_where_they_were_made(run, home, elsewhere, expected):
    (home / "runs/r/places.json").unlink()
    assert use(run, "runs/r", home) == expected
    done = use(run, home / "runs/r", elsewhere, code=1)
    assert "looked at models/m.pt;" in done.stderr and "--model" in done.stderr
    scores = json.loads(run("evaluate", home / "runs/r", "--model", home / "models/m.pt", "--data",
                            home / "rows/test.jsonl", "--json", cwd=elsewhere).stdout)
    scores.pop("file")
    assert scores == expected[0]


def test_a_damaged_places_file_is_named(run, home):
    for text in ("{", "[]", '{"model.path": 3}', '{"model.path": {"names": ["models/m.pt"]}}'):
        (home / "runs/r/places.json").write_text(text)
        assert "places.json" in run("evaluate", "runs/r", cwd=home, code=1).stderr


def test_resume_goes_on_with_the_same_bits(run, home, tmp_path, elsewhere):
    adapter = stop_early(run, home)
    for way in ("elsewhere", "both moved", "typed"):
        copy = shutil.copytree(home, tmp_path / f"copy for {way}")
        folder = copy / "runs/stopped"
        config = [copy / "c.yaml"] if way == "typed" else []  # its relative names mean nothing where we are
        done = run("finetune", *config, "--run", folder, "--resume", cwd=elsewhere)
        assert "resumed after step 3" in done.stderr and (folder / "adapter.safetensors").read_bytes() == adapter
        # It remembers the places anew.
        places = json.loads((folder / "places.json").read_text())
        assert places["model.path"]["from_run"] == "../../models/m.pt" and places["model.path"]["absolute"] == str(
            copy / "models/m.pt")
        assert json.loads(run("evaluate", folder, "--json", cwd=tmp_path).stdout)["rows"] == 32


def test_resume_after_the_model_moved(run, home, elsewhere, tiny_archive):
    adapter = stop_early(run, home)
    shutil.move(home / "models", home / "moved")
    folder = home / "runs/stopped"
    before = tree(folder)
    done = run("finetune", "--run", folder, "--resume", cwd=elsewhere, code=1)
    assert "model models/m.pt" in done.stderr and "does not exist" in done.stderr and "--model" in done.stderr
    done = run("finetune", "--run", folder, "--resume", "--model", tiny_archive("roberta", "encoder"), cwd=elsewhere,
               code=1)
    assert "fingerprint" in done.stderr and json.loads((folder / "task.json").read_text())["fingerprint"] in done.stderr
    assert tree(folder) == before
    run("finetune", "--run", folder, "--resume", "--model", home / "moved/m.pt", cwd=elsewhere)
    assert (folder / "adapter.safetensors").read_bytes() == adapter


def test_a_folder_as_model_moves_too(run, home, tmp_path, elsewhere):
    run("finetune", "c.yaml", "--set", "model.path=models/folder/", "--run", "runs/f", cwd=home)
    expected = use(run, "runs/f", home)
    shutil.move(home, tmp_path / "moved")
    assert use(run, tmp_path / "moved/runs/f", elsewhere) == expected
    shutil.move(tmp_path / "moved/models/folder", elsewhere / "renamed")
    assert "does not exist" in use(run, tmp_path / "moved/runs/f", elsewhere, code=1).stderr
    assert use(run, tmp_path / "moved/runs/f", elsewhere, "--model", elsewhere / "renamed") == expected


def test_factors_and_tokenizers_move_with_the_run(run, home, tmp_path, elsewhere, tiny_folder):
    run("export", "runs/r", "--to", "peft", "--output", "peft", cwd=home)
    shutil.copytree(tiny_folder("bert"), home / "tokens", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    adapter = stop_early(run, home, "--set", "adapter.path=peft", "--set", "model.tokenizer=tokens")
    shutil.move(home, tmp_path / "moved")
    folder = tmp_path / "moved/runs/stopped"
    run("finetune", "--run", folder, "--resume", cwd=elsewhere)
    assert (folder / "adapter.safetensors").read_bytes() == adapter
    assert json.loads(run("evaluate", folder, "--json", cwd=tmp_path).stdout)["rows"] == 32


COMPARE = CONFIG.replace("adapter: {method: lora, rank: 2}\n", "").replace(", seed: 5, lr: 1e-3", "") + """compare:
  methods: [{name: LoRA, adapter: {method: lora, rank: 2}}, {name: warm, adapter: {method: lora, path: peft}}]
  seeds: [1, 2]
  lr: [1e-3]
"""


def test_a_comparison_goes_on_anywhere(run, home, tmp_path, elsewhere, tiny_archive):
    run("export", "runs/r", "--to", "peft", "--output", "peft", cwd=home)
    (home / "compare.yaml").write_text(COMPARE)
    run("compare", "compare.yaml", "--run", "runs/c", cwd=home)
    expected = {p.parent.name: p.read_bytes() for p in (home / "runs/c/cells").glob("*/adapter.safetensors")}
    assert len(expected) == 4
    shutil.move(home, tmp_path / "moved")
    folder = tmp_path / "moved/runs/c"
    assert "0 to run" in run("compare", "--run", folder, cwd=elsewhere).stderr
    for cell in ("lora-lr0.001-s2", "warm-lr0.001-s1"):
        shutil.rmtree(folder / "cells" / cell)
    for command in (["compare", tmp_path / "moved/compare.yaml", "--run", folder], ["compare", "--run", folder]):
        assert "2 to run" in run(*command, cwd=elsewhere).stderr
        assert {p.parent.name: p.read_bytes() for p in (folder / "cells").glob("*/adapter.safetensors")} == expected
        for cell in ("lora-lr0.001-s2", "warm-lr0.001-s1"):
            shutil.rmtree(folder / "cells" / cell)
    # A cell is a run like others.
    assert json.loads(run("evaluate", folder / "cells/lora-lr0.001-s1", "--json", cwd=elsewhere).stdout)["rows"] == 32
    # Only the model moved: it is named, and known by what is in it.
    shutil.move(tmp_path / "moved/models", tmp_path / "moved/elsewhere")
    before = tree(folder)
    assert "does not exist" in run("compare", "--run", folder, cwd=elsewhere, code=1).stderr
    assert tree(folder) == before
    run("compare", "--run", folder, "--model", tmp_path / "moved/elsewhere/m.pt", cwd=elsewhere)
    assert {p.parent.name: p.read_bytes() for p in (folder / "cells").glob("*/adapter.safetensors")} == expected
    before = tree(folder)
    done = run("compare", "--run", folder, "--model", tiny_archive("roberta", "encoder"), cwd=elsewhere, code=1)
    assert "model.path of LoRA: " in done.stderr and "is not what the finished cells" in done.stderr
    assert tree(folder) == before
    assert "does not exist" in run("predict", "m.pt", "--text", "x", "--model", "y", cwd=elsewhere, code=1).stderr
