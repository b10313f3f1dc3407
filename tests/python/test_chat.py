"""Talking with a language model: one load, several turns, through a pipe. Oracle: transformers' chat template, and
predict with the whole conversation."""
from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from conftest import ROOT

TALK = [{"messages": [{"role": "user", "content": f"apple {i}"}, {"role": "assistant", "content": " red"}]} for i
        in range(8)]
PROMPTS = [{"prompt": f"apple {i} is", "completion": " red"} for i in range(8)]
SHORT = ("--max-new-tokens", "6")


@pytest.fixture(scope="session")
def place(run, tiny_archive, tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    for name, rows in (("talk", TALK), ("prompts", PROMPTS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run("finetune", "--model", tiny_archive("qwen2"), "--train", folder / f"{name}.jsonl", "--steps", 2, "--run",
            folder / name, "--set", "data.chat_template=" + (
            "chatml" if name == "talk" else ""))
    run("export", folder / "talk", "--to", "torchscript", "--output", folder / "talk.pt")
    shutil.copy(tiny_archive("qwen2"), folder / "model.pt")
    shutil.copytree(tiny_folder("qwen2"), folder / "folder")
    return folder


def answers_to(run, model, turns, place, system=None, more=()):
    """What predict gives when it is handed the conversation so far, turn by turn."""
    messages = [{"role": "system", "content": system}] if system else []
    out = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        (place / "so-far.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
        out.append(json.loads(run("predict", model, "--input", place / "so-far.jsonl", *SHORT, *more).stdout)["text"])
        messages.append({"role": "assistant", "content": out[-1]})
    return out


@pytest.mark.parametrize("model", ["talk", "talk.pt"])
@pytest.mark.parametrize("system", [None, "be short"])
def test_every_turn_sees_those_before(model, system, run, place, tmp_path):
    turns = ["apple 1", "and then", "apple 7"]
    more = ["--system", system] if system else []
    done = run("chat", place / model, *more, *SHORT, input="\n".join(turns) + "\n")
    assert done.stdout == "".join(answer + "\n" for answer in answers_to(run, place / model, turns, tmp_path, system))


def test_answers_come_before_the_next_line_and_reset_begins_anew(program, run, place, tmp_path):
    expected = answers_to(run, place / "talk", ["apple 1"], tmp_path)[0]
    process = subprocess.Popen([program, "chat", str(place / "talk"), *SHORT], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for _ in range(2):
        process.stdin.write("apple 1\n/reset\n")
        process.stdin.flush()
        found = "".join(process.stdout.readline() for _ in range(expected.count("\n") + 1))
        assert found == expected + "\n"
    process.stdin.write("/exit\nnever read\n")
    process.stdin.close()
    assert process.wait(60) == 0 and process.stdout.read() == ""


@pytest.mark.parametrize("model", ["model.pt", "folder"])
def test_a_model_can_be_asked_before_it_is_trained(model, run, place):
    done = run("chat", place / model, "--template", "chatml", *SHORT, input="apple\n")
    assert done.stdout.endswith("\n") and "every line is a prompt" not in done.stderr
    assert run("chat", place / model, "--template", "chatml", *SHORT, input="apple\n").stdout == done.stdout


def test_both_kinds_of_files_give_the_same(run, place):
    assert run("chat", place / "model.pt", "--template", "chatml", *SHORT, input="apple\n").stdout == run(
        "chat", place / "folder", "--template", "chatml", *SHORT, input="apple\n").stdout


def test_without_a_template_every_line_is_a_prompt_and_that_is_said(run, place):
    for model, reason in (("prompts", "trained on prompts"), ("model.pt", "template")):
        done = run("chat", place / model, *SHORT, input="apple 1 is\napple 1 is\n")
        first, second = done.stdout[:len(done.stdout) // 2], done.stdout[len(done.stdout) // 2:]
        assert first == second and "every line is a prompt of its own" in done.stderr and reason in done.stderr
    done = run("chat", place / "prompts", *SHORT, input="apple 1 is\n")
    assert done.stdout == json.loads(run("predict", place / "prompts", "--prompt", "apple 1 is", *SHORT).stdout)[
        "text"] + "\n"


def test_what_cannot_be_is_said(run, place, tiny_archive):
    assert "--system" in run("chat", place / "prompts", "--system", "x", code=1, input="").stderr
    assert "does not exist" in run("chat", place / "nowhere", code=1, input="").stderr
    assert "needs logits" in run("chat", tiny_archive("bert", "encoder"), code=1, input="").stderr
