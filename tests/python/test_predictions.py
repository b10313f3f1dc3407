"""Rows in and answers out: files, pipes, columns carried along, CSV; scores of exported models."""
from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess

import pytest

from conftest import ROOT
from test_first_minutes import text, write_csv


@pytest.fixture(scope="session")
def place(run, tiny_archive, tmp_path_factory):
    """Runs of each kind on one file of rows, and their merged models."""
    folder = tmp_path_factory.mktemp("predictions")
    rng = random.Random(5)
    rows = [[f"id {i}", text(rng) + (', "quoted"\nline' if i == 3 else ""), "né g" if i % 3 else "pos", i * 0.5 - 3]
            for i in range(40)]
    write_csv(folder / "rows.csv", ["id", "text", "label", "score"], rows)
    for name, label in (("classes", "label"), ("numbers", "score")):
        run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", folder / "rows.csv", "--label", label,
            "--steps", 4, "--run", folder / name,
            "--set", "data.max_length=24", "--set", "train.batch_size=8", "--set", "data.test_share=0.2")
        run("export", folder / name, "--to", "torchscript", "--output", folder / f"{name}.pt")
    return folder


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_probabilities_come_by_label_too(run, place):
    for one in lines(run("predict", place / "classes", place / "rows.csv")):
        assert list(one["by_label"]) == ["né g", "pos"] and list(one["by_label"].values()) == one["probabilities"]
        assert one["prediction"] == max(one["by_label"], key=one["by_label"].get)


def test_a_file_may_be_named_alone(run, place):
    assert run("predict", place / "classes", place / "rows.csv").stdout == run("predict", place / "classes", "--input",
        place / "rows.csv").stdout


@pytest.mark.parametrize("model", ["classes", "classes.pt", "numbers"])
def test_a_pipe_is_answered_line_by_line(model, program, run, place):
    texts = ["good day", '{"text": "bad day"}', "  {\"text\": \"nice\"}  ", "naïve 🙂 text"]
    plain = lines(run("predict", place / model, *[part for one in ("good day", "bad day", "nice", "naïve 🙂 text")
                                                  for part in ("--text", one)]))
    process = subprocess.Popen([program, "predict", str(place / model), "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for sent, expected in zip(texts, plain, strict=True):
        process.stdin.write(sent + "\n\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())  # comes before the next line is sent
        assert found["prediction"] == pytest.approx(expected["prediction"]) and found["logits"] == pytest.approx(
            expected["logits"], abs=1e-4)
    process.stdin.close()
    assert process.wait(60) == 0 and process.stdout.read() == ""


def test_a_pipe_needs_no_dash(run, place):
    whole = run("predict", place / "classes", "-", input="one\ntwo\n").stdout
    assert len(whole.splitlines()) == 2
    assert run("predict", place / "classes", input="one\ntwo\n").stdout == whole


def test_columns_are_carried_along(run, place):
    rows = list(csv.DictReader(open(place / "rows.csv", encoding="utf-8", newline="")))
    for one, row in zip(lines(run("predict", place / "classes", place / "rows.csv", "--keep", "id,text")), rows,
                        strict=True):
        assert list(one)[:2] == ["id", "text"] and (one["id"], one["text"]) == (row["id"], row["text"])
    answered = lines(run("predict", place / "classes", "-", "--keep", "id", input='{"id": 7, "text": "x"}\n'))
    assert answered[0]["id"] == 7


def test_a_name_that_ends_in_csv_gives_a_table(run, place, tmp_path):
    run("predict", place / "classes", place / "rows.csv", "--keep", "id,text", "--output", tmp_path / "out.csv")
    expected = lines(run("predict", place / "classes", place / "rows.csv", "--keep", "id,text"))
    found = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode("utf-8"), newline="")))
    assert list(found[0]) == ["id", "text", "prediction", "probability of né g", "probability of pos"]
    for one, row in zip(expected, found, strict=True):
        assert (row["id"], row["text"], row["prediction"]) == (one["id"], one["text"], one["prediction"])
        assert float(row["probability of pos"]) == one["by_label"]["pos"]
    run("predict", place / "numbers", place / "rows.csv", "--output", tmp_path / "numbers.csv")
    found = [float(row["prediction"]) for row in csv.DictReader(open(tmp_path / "numbers.csv"))]
    assert found == [one["prediction"] for one in lines(run("predict", place / "numbers", place / "rows.csv"))]


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_an_exported_model_scores_as_its_run(name, run, place):
    label = ["--set", "data.label=score"] if name == "numbers" else []
    scores = [json.loads(run("evaluate", place / model, "--data", place / "rows.csv", "--json", *label).stdout)
              for model in (name, f"{name}.pt")]
    assert list(scores[0]) == list(scores[1])
    for key, value in scores[0].items():
        if isinstance(value, (int, float)):
            assert scores[1][key] == pytest.approx(value, abs=1e-4), key
    assert [scores[1].get(key) for key in ("confusion", "per_label")] == [scores[0].get(key) for key in ("confusion",
        "per_label")]


@pytest.mark.parametrize("arguments, words", {
    "an unknown column": (["rows.csv", "--keep", "idd"], ["--keep idd: no such column (did you mean 'id'?)",
                                                          "rows.csv:2", "columns: id, text"]),
    "a field of that name": (["named.csv", "--keep", "prediction"], ["--keep prediction", "rename the column"]),
    "npy": (["rows.csv", "--output", "x.npy"], ["x.npy", "vectors of texts"]),
    "two sources": (["rows.csv", "--text", "x"], ["one of these"]),
    "none": ([], ["name the rows"]),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_is_said(arguments, words, run, place):
    given, expected = words
    write_csv(place / "named.csv", ["text", "prediction"], [["a", 1]])
    done = run("predict", "classes", *given, code=1, cwd=place, stdin=subprocess.DEVNULL)
    for word in expected:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize("line, words", [("{broken", "standard input:2: expected a JSON object"),
                                         ('{"other": 1}', "no column 'text'"), ("a\udcff", "not valid UTF-8")])
def test_a_bad_line_of_a_pipe_ends_it_with_its_number(line, words, program, place):
    done = subprocess.run([program, "predict", str(place / "classes"), "-"], input=f"good\n{line}\n".encode("utf-8",
        "surrogateescape"), capture_output=True, cwd=ROOT)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert words in done.stderr.decode() and "standard input:2" in done.stderr.decode()


def test_an_exported_model_has_no_rows_of_its_own(run, place):
    assert "name labelled rows with --data" in run("evaluate", place / "classes.pt", code=1).stderr


def test_a_run_without_rows_to_score_says_what_to_do(run, place, tiny_archive, tmp_path):
    run("finetune", "--model", tiny_archive("bert", "encoder"), "--train", place / "rows.csv", "--steps", 1, "--run",
        tmp_path / "run", "--set", "data.dev_share=0",
        "--set", "data.max_length=24")
    said = run("evaluate", tmp_path / "run", code=1).stderr
    assert "--data FILE" in said and "data.test_share" in said


@pytest.mark.parametrize("word", ["true", "yes", "on", "false", "no"])
def test_headers_are_said_with_yamls_booleans(word, run, place, tmp_path):
    has = word in ("true", "yes", "on")
    (tmp_path / "rows.csv").write_text(("text,label\n" if has else "") + "".join(f"words {i},{'ab'[i % 2]}\n" for i
        in range(9)))
    columns = [] if has else ["--text", "0", "--label", "1"]
    done = run("finetune", "--model", "model.pt", "--train", tmp_path / "rows.csv", *columns, "--set",
               f"data.header={word}", "--print-config")
    assert "column label holds 2" in done.stderr if has else "column 1 holds 2" in done.stderr
