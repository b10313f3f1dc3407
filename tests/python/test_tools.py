"""The small Python tools. Oracles: results written down by hand."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import add_up_tests
import make_tiny_models
import missing_packages
from conftest import ROOT

CTEST = """<testsuite tests="5"><testcase name="a" status="run"/><testcase name="b" status="fail"><failure/></testcase>
<testcase name="c" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
<testcase name="d" status="notrun"><skipped message="Unable to find executable"/></testcase>
<testcase name="e" status="disabled"><skipped message="Disabled"/></testcase></testsuite>"""
PYTEST = """<testsuites><testsuite><testcase name="f"/><testcase name="g"><skipped/></testcase>
<testcase name="h"><error/></testcase></testsuite></testsuites>"""


def test_results_of_all_runners_are_added_up(tmp_path, capsys):
    (tmp_path / "ctest.xml").write_text(CTEST)
    (tmp_path / "pytest.xml").write_text(PYTEST)
    assert add_up_tests.main([str(tmp_path / "ctest.xml"), str(tmp_path / "pytest.xml")]) == 1
    # b, h failed; d could not be started, which is no skip
    assert capsys.readouterr().out == "2 passed, 3 failed, 3 skipped\n"


@pytest.mark.parametrize("cases, code, line", [('<testcase name="a"/>', 0, "1 passed, 0 failed"),
                                               ("", 1, "0 passed, 0 failed")])
def test_success_needs_a_test_that_passed(cases, code, line, tmp_path, capsys):
    (tmp_path / "r.xml").write_text(f"<testsuite>{cases}</testsuite>")
    assert add_up_tests.main([str(tmp_path / "r.xml")]) == code
    assert capsys.readouterr().out == line + "\n"


def test_missing_and_older_packages_are_listed(tmp_path):
    (tmp_path / "r.txt").write_text(
        "# a comment\npytest>=1.0\npytest>=9999.0  # newer than any\nno-such-package-here==1.0\n"
        'no-such-package-either==1.0; python_version < "3.0"\n')
    assert missing_packages.unmet(str(tmp_path / "r.txt")) == ["pytest>=9999.0", "no-such-package-here==1.0"]


def test_torch_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(missing_packages.metadata, "version", lambda name: "2.5.1+cpu")
    assert missing_packages.torch_lack("2.6") == ["torch 2.5.1+cpu is older than 2.6"]
    monkeypatch.setattr(missing_packages.metadata, "version", lambda name: "2.13.0")
    assert missing_packages.torch_lack("2.6") == []


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_tiny_model_is_the_same_every_time(name, tiny_folder, tmp_path):
    make_tiny_models.make(name, str(tmp_path / name))
    first = {p.name: p.read_bytes() for p in tiny_folder(name).iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == first


def test_unknown_tiny_model_names_those_there_are(tmp_path, capsys):
    assert make_tiny_models.main([str(tmp_path), "bret"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no tiny model bret") and "bert-classifier" in said


@pytest.mark.parametrize("tool", ["setup", "test"])
def test_unknown_option_is_a_usage_error(tool):
    done = subprocess.run([str(ROOT / "tools" / tool), "--nonsense"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown option --nonsense")


def test_setup_lists_what_is_missing_and_installs_nothing(tmp_path):
    # A copy of the project without .venv, and a Python without torch: LibTorch is missing there, and stays so.
    (tmp_path / "tools").mkdir()
    for name in ("setup", "missing_packages.py", "requirements.txt", "requirements-quickstart.txt",
                 "requirements-no-deps.txt"):
        (tmp_path / "tools" / name).write_bytes((ROOT / "tools" / name).read_bytes())
    blind = tmp_path / "python-without-torch"
    blind.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    for path in (tmp_path / "tools" / "setup", blind):
        path.chmod(0o755)
    done = subprocess.run([str(tmp_path / "tools" / "setup"), "--no-install", "--python"], capture_output=True,
                          text=True,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": str(blind)})
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("missing: ") for line in lines)
    assert "missing: LibTorch: torch 2.13.0 into .venv" in lines
    assert not (tmp_path / ".venv").exists()


def test_pages_of_results_hold_the_command_the_plots_and_the_report(tmp_path):
    config, run = tmp_path / "a.yaml", tmp_path / "a"
    config.write_text("# Run: build/deeplora compare a\n")
    (run / "figures").mkdir(parents=True)
    (run / "report.md").write_text("# Title\n\nnumbers\n\n## Learned updates\n\n## Configuration\n\nleft out\n")
    for name in ("test-score", "spectrum"):
        (run / "figures" / f"{name}.svg").write_text("<svg/>")
    pages = tmp_path / "pages"
    subprocess.run([sys.executable, ROOT / "tools/collect_results.py", pages, f"{config}={run}=--set 'x=[1,2]'"],
                   check=True)
    assert (pages / "a.md").read_text() == (
        "# Title\n\n```\nbuild/deeplora compare a --set 'x=[1,2]'\n```\n\n![test score](a/test-score.svg)\n\n"
        "numbers\n\n## Learned updates\n")
    assert [path.name for path in (pages / "a").iterdir()] == ["test-score.svg"]


def test_the_exporter_writes_through_links_keeps_modes_and_refuses_what_is_no_file(tiny_archive, tiny_folder, tmp_path):
    """An export renamed over /dev/null would take the device away."""
    import export_torchscript

    (tmp_path / "far.pt").write_bytes(b"old")
    (tmp_path / "far.pt").chmod(0o600)
    (tmp_path / "link.pt").symlink_to("far.pt")
    export_torchscript.export(str(tiny_folder("bert")), str(tmp_path / "link.pt"))
    assert (tmp_path / "link.pt").is_symlink() and (tmp_path / "far.pt").stat().st_mode & 0o777 == 0o600
    assert torch.jit.load(str(tmp_path / "far.pt")) is not None
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(export_torchscript.ExportError, match="is no file"):
        export_torchscript.export(str(tiny_folder("bert")), str(tmp_path / "pipe.pt"))
    assert (tmp_path / "pipe.pt").is_fifo() and len(list(tmp_path.iterdir())) == 3


def test_quickstart_asks_the_peers_the_same_question(run, tiny_folder, tiny_archive, tmp_path, capsys):
    import quickstart_peers

    rows = tmp_path / "rows.tsv"
    rows.write_text("text\tlabel\n" + "".join(f"the {w} house\t{i}.5\n" for i,
                                              w in enumerate(("red", "blue", "old", "new"))))
    said = {}
    for name, model in (("folder", tiny_folder("bert")), ("archive", tiny_archive("bert", "encoder"))):
        (tmp_path / "c.yaml").write_text(
            f"model: {{path: {model}}}\ndata: {{task: regression, train: {rows}, max_length: 24}}\n"
                                         "adapter: {method: lora, rank: 2}\ntrain: {steps: 3, batch_size: 2, lr: "
                                         "1e-2}\n")
        run("finetune", tmp_path / "c.yaml", "--run", tmp_path / name)
        said[name] = json.loads(run("predict", tmp_path / name, "--text", "a red house").stdout)["prediction"]
    run("export", tmp_path / "folder", "--to", "peft", "--output", tmp_path / "peft")
    run("export", tmp_path / "archive", "--to", "torchscript", "--output", tmp_path / "m.pt")
    assert quickstart_peers.main([str(tiny_folder("bert")), str(tmp_path / "m.pt"), str(tmp_path / "peft"),
                                  "a red house"]) == 0
    jit, peft = (float(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines())
    assert jit == pytest.approx(said["archive"], abs=2e-5) and peft == pytest.approx(said["folder"], abs=2e-5)
    assert quickstart_peers.main([]) == 2


def test_scores_become_classes(tmp_path):
    """Oracle: the scores counted with pandas."""
    import make_sentiment_classes
    import pandas

    rows = pandas.read_csv(ROOT / "data/sentiment-amazon/train.tsv", sep="\t", header=None, quoting=3)
    for neutral in (0, 0.5):
        make_sentiment_classes.main([str(tmp_path), "--rows", "16", "all", "--neutral", str(neutral)])
        expected = {"negative": (rows[1] < -neutral).sum(), "neutral": (rows[1].abs() <= neutral).sum(),
                    "positive": (rows[1] > neutral).sum()}
        written = pandas.read_csv(tmp_path / "train-all.csv")
        assert written["label"].value_counts().to_dict() == expected
        assert sorted(written["text"]) == sorted(rows[2])
        assert set(pandas.read_csv(tmp_path / "train-16.csv")["label"].value_counts()) == {16}


def test_quickstart_takes_the_median_seed_and_shows_probabilities(tmp_path):
    """Its two functions on files written down by hand, with a program that answers as deeplora predict does."""
    source = (ROOT / "tools/quickstart").read_text()
    functions = source[source.index("# A line for each sentence"):source.index('step "1.')]
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare/cells.csv").write_text(
        "cell,method,rank,samples,lr,seed,state,dev,test\n"
        "lora-s1,lora,8,,0.1,1,done,.7,.71\nlora-s2,lora,8,,0.1,2,done,.9,.65\nlora-s3,lora,8,,0.1,3,done,.6,.8\n"
        "other-s1,other,8,,0.1,1,done,.6,.7\nother-s2,other,8,,0.1,2,diverged,,\n")
    (tmp_path / "sentences.txt").write_text("it works, mostly\nbroken\n")
    (tmp_path / "program").write_text(
        '#!/bin/sh\nprintf "prediction,probability of bad,probability of good\\ngood,0.25,0.75\\nbad,0.9,0.1\\n" > '
        '"$5"\n')
    (tmp_path / "program").chmod(0o755)
    script = (f'runs={tmp_path} program={tmp_path}/program\n{functions}\nmedian_run lora; median_run other; says model '
              f'name\n')
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["lora-s1", "other-s1", "  name:",
                                        "    bad 0.250    good 0.750\tit works, mostly",
                                        "    bad 0.900    good 0.100\tbroken"]
