"""Data files through the program: GLUE's published layouts by task name, pipes, tables of spreadsheets, what is said of
a file."""
from __future__ import annotations

import json
import subprocess

import pytest

PUBLISHED = {  # header (None: the file has none) and rows as they lie in GLUE's archives
    "cola": (None, ["gj04\t1\t\tOur friends \"won't buy\" this.", "gj04\t0\t*\tThey \"is"]),
    "sst2": ("sentence\tlabel", ["hide new \"secretions \t0", "that loves its characters \t1"]),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", ["1\t70\t71\tHe said \"no\" .\t\"No , \" he said .",
        "0\t72\t73\t\"Yes\tno"]),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", ["1\t2\t3\tWhat is \"a\"?\tWhat's a?\t1",
        "4\t5\t6\tWhy?\tWho?\t0"]),
    "stsb": ("index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
             ["0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA plane.\tAn \"air plane.\t5.000",
              "1\tmain\tMSRvid\t2012\t4\tnone\tnone\tA man.\tA dog.\t0.500"]),
    "mnli": ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
             "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
             ["0\t1\t1n\tx\t( a )\t( b )\t(R a)\t(R b)\tIt \"is.\tIt was.\tneutral\tneutral",
              "1\t2\t2e\tx\t( a )\t( b )\t(R a)\t(R b)\tA.\tB.\tentailment\tentailment"]),
    "qnli": ("index\tquestion\tsentence\tlabel", ["0\tWhat?\tThe \"third\tentailment", "1\tWho?\tIt.\tnot_entailment"]),
    "rte": ("index\tsentence1\tsentence2\tlabel", ["0\tNo \"Weapons\tWeapons.\tnot_entailment",
                                                   "1\tA.\tB.\tentailment"]),
    "wnli": ("index\tsentence1\tsentence2\tlabel", ["0\tI \"stuck\tThe pin.\t1", "1\tA.\tB.\t0"]),
}


def dry_run(run, folder, archive, code=0, **data):
    settings = {"model": {"path": str(archive)}, "data": data, "adapter": {"method": "none"}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    return run("finetune", folder / "config.yaml", "--dry-run", code=code).stderr


@pytest.mark.parametrize("task", PUBLISHED)
def test_published_files_of_glue_are_read_as_they_lie(task, run, tiny_archive, tmp_path):
    header, rows = PUBLISHED[task]
    file = tmp_path / ("msr_paraphrase_train.txt" if task == "mrpc" else "train.tsv")
    file.write_text("".join(line + "\n" for line in ([header] if header else []) + rows), "utf-8")
    said = dry_run(run, tmp_path, tiny_archive("bert", "encoder"), task=task, train=str(file))
    assert f"data: {file}: 2 rows, columns " in said
    assert ("targets from 0.5 to 5" if task == "stsb" else "labels ") in said
    labels = {line.split("\t")[{"cola": 1, "mrpc": 0}.get(task, -1)] for line in rows}
    if task != "stsb":
        for label in labels:
            assert f"{label} 1" in said.partition("labels ")[2], said


def test_what_a_file_was_read_as_is_said(run, tiny_archive, tmp_path):
    (tmp_path / "rows.csv").write_bytes(
        "text;label\r\n\"good; caf\u00e9\";pos\r\nbad;neg\r\nfine;pos \r\n;neg\r\n".encode("cp1252"))
    said = dry_run(run, tmp_path, tiny_archive("bert", "encoder"), task="classification",
                   train=str(tmp_path / "rows.csv"), encoding="cp1252")
    assert (f"data: {tmp_path}/rows.csv: 4 rows, columns text, label; separator ;, quoted; labels neg 2, pos 2; "
            f"lengths median " in said)
    assert ("data.train: 1 of 4 values of column label had blanks at an end, which are not part of them, the first at"
            in said)
    assert f"data.train: 1 of 4 rows have an empty text, the first at {tmp_path}/rows.csv:5" in said


def test_columns_by_number_leave_a_header_out(run, tiny_archive, tmp_path):
    (tmp_path / "rows.csv").write_text("id,label,text\n" + "".join(f"{i},{'ab'[i % 2]},some words {i}\n" for i
        in range(40)))
    said = dry_run(run, tmp_path, tiny_archive("bert", "encoder"), task="classification",
                   train=str(tmp_path / "rows.csv"), text="2", label="1", dev_share=0)
    assert "40 rows, columns id, label, text; separator ,; labels a 20, b 20" in said


def test_numbers_are_one_label_in_every_spelling(run, tiny_archive, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na,0\nb,1.0\nc,1\nd,0\n")
    said = dry_run(run, tmp_path, tiny_archive("bert", "encoder"), task="classification",
                   train=str(tmp_path / "rows.csv"))
    assert "labels 0 2, 1 2" in said and "'1.0' is label '1'" in said


def test_rows_from_a_pipe(run, program, tiny_archive, tmp_path):
    rows = [{"text": f"word {i}", "label": i % 2} for i in range(6)]
    for content, shown in ((json.dumps(rows, indent=1), "6 rows, columns text, label; labels"),
                           ("".join(json.dumps(row) + "\n" for row in rows), "6 rows, columns text, label; labels"),
                           ("label|text\n" + "".join(f"{r['label']}|{r['text']}\n" for r in rows),
                            "6 rows, columns label, text; separator |; labels")):
        settings = {"model": {"path": str(tiny_archive("bert", "encoder"))}, "data": {"task": "classification",
            "train": "/dev/stdin"},
                    "adapter": {"method": "none"}}
        (tmp_path / "config.yaml").write_text(json.dumps(settings))
        done = subprocess.run([str(program), "finetune", str(tmp_path / "config.yaml"), "--dry-run"], input=content,
                              capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0 and f"data: /dev/stdin: {shown} 0 3, 1 3" in done.stderr, done.stderr


def test_skipped_rows_are_counted_and_named(run, tiny_archive, tmp_path):
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join("half a row\n" if i == 9
        else f"words {i}\t{'ab'[i % 2]}\n" for i in range(200)))
    said = dry_run(run, tmp_path, tiny_archive("bert", "encoder"), task="classification",
                   train=str(tmp_path / "rows.tsv"), bad_rows="skip", dev_share=0)
    assert f"data.train: 1 of 200 rows were skipped: {tmp_path}/rows.tsv:11: 1 columns, expected 2 as in line 1" in said
    assert "199 rows, columns text, label; separator tab; 1 skipped; labels a 100, b 99" in said


USELESS = {
    "preference": ("gpt2", "causal-lm", {"prompt": "red", "chosen": " house", "rejected": " car"},
                   {"rejected": " house"}, "chosen and rejected are the same"),
    "embedding": ("bert", "encoder", {"text": "red", "text_pair": "house", "negative": "car"}, {"negative": "house"},
                  "negative: is the same text as text_pair"),
    "token-classification": ("bert", "encoder", {"tokens": ["red", "house"], "tags": ["O", "B-X"]}, {"tags": ["O"]},
                             "tags"),
}


@pytest.mark.parametrize("task", USELESS)
def test_rows_that_say_nothing_are_skipped_as_well(task, run, tiny_archive, tmp_path):
    name, kind, row, useless, said = USELESS[task]
    rows = [{**row, **(useless if i == 9 else {})} for i in range(200)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    call = ("finetune", "--model", tiny_archive(name, kind), "--task", task, "--train", tmp_path / "rows.jsonl",
            "--dry-run", "--set", "data.dev_share=0")
    assert f"rows.jsonl:10: {said}" in run(*call, code=1).stderr
    done = run(*call, "--set", "data.bad_rows=skip").stderr
    assert (f"data.train: 1 of 200 rows were skipped: {tmp_path}/rows.jsonl:10: {said}" in done
            and "199 of 199 training rows" in done)
    assert "1 of 200 rows cannot be used, more than data.bad_rows_share: 0.001" in run(*call, "--set",
        "data.bad_rows=skip", "--set", "data.bad_rows_share=0.001", code=1).stderr
