"""Every method x targets x export form: what is written reads back with the run's scores, or is refused by name. The
lists come from the program itself."""
from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from fork_server import started
from test_class_heads import texts, write

UNREADABLE = {"gguf"}  # forms that are for other programs alone: their own tests read them there
WITHOUT_ADAPTERS = {"none", "full"}
TARGETS = ["all-linear", "query-value", "[embedding, key]"]
MODELS = {"bert": ("classification", TARGETS), "gpt2": ("causal-lm", ["attention-mlp", "[query, mlp_out, embedding]"]),
          "bert-classifier": ("classification", ["all-linear"])}


def words_behind(text, pattern):
    return re.search(pattern, text).group(1).strip().split(", ")


@pytest.fixture(scope="module")
def forms(run):
    return words_behind(run("export", "--help").stdout.replace("\n", " "), r"Form: ([\w, -]+?)\s\s")


@pytest.fixture(scope="module")
def methods(run):
    return words_behind(run("reference", "config").stdout, r"`adapter.method` \|[^|]*\|[^|]*\| one of ([\w, -]+)")


ENDINGS = {"torchscript": ".pt", "pt2": ".pt2"}


def expected_refusal(model, method, targets, form, kind):
    """What a form cannot hold, as docs/exports.md says it."""
    if form in ENDINGS and ENDINGS[form] != kind:
        return "no exported program" if form == "pt2" else "is no TorchScript"
    if form == "peft":
        if method in WITHOUT_ADAPTERS:
            return "no adapters"
        if model == "gpt2" and method == "dora":
            return "DoRA" if "embedding" in targets or "query" in targets else ""
        return ""
    if form == "sentence-transformers":
        return {"bert": "", "gpt2": "causal-lm", "bert-classifier": "no pooling and linear head"}[model]
    if form == "gguf":  # its own tests say which; here: whole, or refused in one line
        return None if model == "gpt2" else "error"
    return ""


class Bench:
    """One trained run, its exports, and what they score when they are read again."""

    def __init__(self, program, root, archive, task, data):
        self.program, self.root, self.archive, self.task, self.data = program, root, archive, task, data

    def call(self, *arguments):
        return subprocess.run([*started(self.program), *map(str, arguments)], capture_output=True, text=True,
                              timeout=300)

    def train(self, out, model, adapter, steps, head=""):
        path = self.root / f"{out}.yaml"
        path.write_text(f"model: {{path: {model}, dropout: 0}}\ndata: {{task: {self.task}, train: {self.data}, dev: "
                        f"{self.data}}}\n"
                        f"adapter: {{{adapter}}}\nhead: {{{head}}}\ntrain: {{steps: {steps}, batch_size: 6, lr: 0.02, "
                        f"eval_every: 100}}\n")
        done = self.call("finetune", path, "--run", self.root / out)
        assert done.returncode == 0, f"{out}: {done.stderr}"
        return json.loads((self.root / out / "result.json").read_text())["last"]["loss"]

    def check(self, model, method, targets, forms):
        name = re.sub(r"\W+", "-", f"{method}-{targets}")
        adapter = f"method: {method}" + ("" if method in WITHOUT_ADAPTERS else f", targets: {targets}, rank: 2")
        if model == "gpt2" and method == "none":
            return  # a language model has no head to train
        loss = self.train(name, self.archive, adapter, 3)
        for form in forms:
            out = self.root / f"{name}-{form}{ENDINGS.get(form, '')}"
            done = self.call("export", self.root / name, "--to", form, "--output", out, "--last")
            what = f"{model} {method} {targets} {form}: {done.stdout}{done.stderr}"
            refusal = expected_refusal(model, method, targets, form, self.archive.suffix)
            errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert done.returncode in ((0, 1) if refusal is None else (1,) if refusal else (0,)), what
            if done.returncode == 1:
                assert len(errors) == 1 and (refusal or "") in errors[0] and not out.exists(), what
            elif form not in UNREADABLE:
                again = self.read(f"{name}-{form}-again", form, out)
                assert abs(again - loss) <= 2e-5 * max(1, abs(loss)), f"{what}: {loss}, read back {again}"

    def read(self, out, form, written):
        if form == "peft":
            return self.train(out, self.archive, f"path: {written}", 0)
        # a fresh pair changes nothing
        steps_alone = "method: lora, rank: 1" if self.task == "causal-lm" else "method: none"
        return self.train(out, written, steps_alone, 0)


@pytest.mark.parametrize(("model", "kind_of_file"), [*((model, "tiny_archive") for model in MODELS),
                                                     ("bert", "tiny_program"), ("gpt2", "tiny_program")])
def test_what_is_written_reads_back_or_is_refused_by_name(model, kind_of_file, program, forms, methods, request,
                                                          tmp_path):
    task, targets = MODELS[model]
    assert {"torchscript", "pt2", "safetensors", "peft", "sentence-transformers"} <= set(forms) and {"none", "full",
        "lora", "deep-lora", "dora"} <= set(methods)
    rows = texts()
    if task == "causal-lm":
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
    else:
        data = write(tmp_path / "rows.jsonl", rows, ["0", "1", "2"] * 4)
    kind = {"bert": "encoder", "gpt2": "causal-lm", "bert-classifier": "classifier"}[model]
    bench = Bench(program, tmp_path, request.getfixturevalue(kind_of_file)(model, kind), task, data)
    cells = [(method, one) for method in methods for one in (targets[:1] if method in WITHOUT_ADAPTERS else targets)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cell: bench.check(model, *cell, forms), cells))
