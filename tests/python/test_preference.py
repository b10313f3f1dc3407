"""Pairs of answers through the program. Oracles: TRL's formulas (DPOTrainer with loss_type sigmoid, ORPOTrainer) in
plain PyTorch on transformers and PEFT."""
from __future__ import annotations

import json
import random

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from test_distributed import together
from test_language_models import COLORS, NAMES, finetune, metrics, texts

DPO = {"loss": "dpo", "beta": 0.3}
ORPO = {"loss": "orpo", "beta": 0.4}


def drawn(count, seed):
    rng = random.Random(seed)
    few = lambda pool: " ".join(rng.choice(pool) for _ in range(rng.randint(1, 4)))
    return [{"prompt": f"{few(NAMES)} {i} is", "chosen": " red " + few(COLORS), "rejected": " blue " + few(NAMES)} for i
            in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return {split: write(folder / f"{split}.jsonl", drawn(count, seed)) for seed, (split, count)
            in enumerate({"train": 24, "dev": 9, "test": 7}.items())}


def sides(folder, rows):
    """(ids, length of the prompt) of the chosen and the rejected sequence of every row."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = []
    for row in rows:
        prompt = tokenizer(row["prompt"], return_token_type_ids=False)["input_ids"]
        answers = [tokenizer(row[side], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for side
                   in ("chosen", "rejected")]
        out.append([(prompt + answer, len(prompt)) for answer in answers])
    return out


def token_logps(model, ids):
    ids = torch.tensor([ids])
    return model(input_ids=ids).logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:].unsqueeze(2))[0, :, 0]


def answer_sums(model, pairs):
    return torch.stack([torch.stack([token_logps(model, ids)[start - 1:].sum() for ids, start in pair]) for pair
                        in pairs])


def log1mexp(x):
    return torch.where(x < -0.6931471805599453, torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def trl(model, pairs, settings, reference):
    """Loss and rewards [B, 2] of the pairs."""
    beta = settings["beta"]
    if settings["loss"] == "dpo":
        ratios = answer_sums(model, pairs) - reference
        return -F.logsigmoid(beta * (ratios[:, 0] - ratios[:, 1])).mean(), beta * ratios.detach()
    counts = torch.tensor([[len(ids) - start for ids, start in pair] for pair in pairs])
    means = answer_sums(model, pairs) / counts
    odds = means - log1mexp(means)
    text = -torch.cat([token_logps(model, pair[0][0]) for pair in pairs]).mean()
    return text - beta * F.logsigmoid(odds[:, 0] - odds[:, 1]).mean(), beta * means.detach()


def scores_of(loss, rewards):
    margins = rewards[:, 0] - rewards[:, 1]
    return {"loss": loss.item(), "accuracy": (margins > 0).float().mean().item(), "margin": margins.mean().item()}


def data_of(files, settings, **more):
    return {"task": "preference", **{k: str(v) for k, v in files.items()}, "max_length": 64, **settings, **more}


@pytest.mark.parametrize("backend", ["native", "graph"])
@pytest.mark.parametrize("settings", [DPO, ORPO], ids=["dpo", "orpo"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_ten_steps_and_the_scores_behind_them_equal_trls(name, settings, backend, run, files, tiny_archive, tiny_folder,
                                                         tmp_path):
    from peft import PeftModel

    adapter, model = {"method": "lora", "rank": 4, "alpha": 8, "targets": "all-linear"}, {"dropout": 0.0,
        "backend": backend}
    data = data_of(files, settings)
    start = finetune(run, tmp_path / "start", tiny_archive(name), data, adapter, {"steps": 0}, model)
    run("export", start, "--to", "peft", "--output", tmp_path / "peft")
    train = {"steps": 10, "batch_size": 8, "accumulate": 3, "lr": 0.01, "schedule": "constant", "clip": 0,
             "log_every": 1, "keep": "last"}
    fresh = finetune(run, tmp_path / "fresh", tiny_archive(name), data,
                     {**adapter, "path": str(start / "adapter.safetensors")}, train, model)
    losses = [row["loss"] for row in metrics(fresh) if "loss" in row]

    base = AutoModelForCausalLM.from_pretrained(tiny_folder(name))
    read = {split: sides(tiny_folder(name), [json.loads(line) for line in file.read_text().splitlines()]) for split,
            file in files.items()}
    with torch.no_grad():
        reference = {split: answer_sums(base.eval(), pairs) for split, pairs in read.items()}
    peer = PeftModel.from_pretrained(base, tmp_path / "peft", is_trainable=True).eval()
    optimizer = torch.optim.AdamW([p for p in peer.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    expected = []
    for _ in range(10):  # all 24 rows are one step
        optimizer.zero_grad()
        loss, _ = trl(peer, read["train"], settings, reference["train"])
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=5e-4)  # float32: rounding grows a little over the steps
    assert expected[-1] < 0.9 * expected[0]
    result = json.loads((fresh / "result.json").read_text())
    with torch.no_grad():
        for part, split in (("best", "dev"), ("test", "test")):
            wanted = scores_of(*trl(peer, read[split], settings, reference[split]))
            assert {key: result[part][key] for key in wanted} == pytest.approx(wanted, abs=2e-3)
    assert (fresh / "reference.safetensors").exists() == (settings is DPO)
    if settings is DPO:
        for split, values in load_file(fresh / "reference.safetensors").items():
            torch.testing.assert_close(values, reference[split].double(), rtol=1e-5, atol=1e-4)


STARTS = {
    "deep chains": {"method": "deep-lora", "rank": 4, "init_scale": 0.3},
    "from the gradient": {"method": "lora-one", "rank": 2},
    "pissa": {"method": "pissa", "rank": 4},
    "full": {"method": "full"},
    "biases beside": {"method": "lora", "rank": 2, "train_also": ["*.bias"]},
    "a former run": {"method": "lora", "rank": 2, "train_also": ["*.bias"], "path": "former"},
}


@pytest.mark.parametrize("start", STARTS)
def test_the_reference_is_the_model_as_it_was_loaded_whatever_training_starts_from(start, run, files, tiny_archive,
        tiny_folder, tmp_path):
    adapter = dict(STARTS[start])
    data = data_of(files, DPO)
    if adapter.get("path"):
        former = finetune(run, tmp_path / "former", tiny_archive("gpt2"), data, {k: v for k, v in adapter.items()
            if k != "path"}, {"steps": 6, "lr": 0.02})
        adapter["path"] = str(former / "adapter.safetensors")
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), data, adapter, {"steps": 4, "batch_size": 8,
        "lr": 0.005, "keep": "last"})
    rows = {split: [json.loads(line) for line in file.read_text().splitlines()] for split, file in files.items()}
    base = AutoModelForCausalLM.from_pretrained(tiny_folder("gpt2")).eval()
    with torch.no_grad():
        for split, values in load_file(folder / "reference.safetensors").items():
            torch.testing.assert_close(values, answer_sums(base, sides(tiny_folder("gpt2"), rows[split])).double(),
                                       rtol=1e-5, atol=1e-4)

    # Rows that the run has not seen are compared with the same model, long after its weights were changed.
    more = drawn(6, 77)
    scored = json.loads(run("evaluate", folder, "--data", write(tmp_path / "more.jsonl", more), "--json").stdout)
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    pairs = sides(tiny_folder("gpt2"), more)
    with torch.no_grad():
        wanted = scores_of(*trl(merged, pairs, DPO, answer_sums(base, pairs)))
    assert {key: scored[key] for key in wanted} == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted["margin"]) > 1e-3
    own = json.loads(run("evaluate", folder, "--json").stdout)
    result = json.loads((folder / "result.json").read_text())["test"]
    assert {key: own[key] for key in result} == pytest.approx(result, abs=1e-9)


def test_a_run_that_goes_on_keeps_its_reference_and_its_bits(run, program, files, tiny_archive, tmp_path):
    train = {"steps": 6, "batch_size": 8, "eval_every": 2, "save_every": 2, "lr": 0.01}
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), data_of(files, DPO), {"method": "full"}, train)
    bits = {name: (folder / name).read_bytes() for name in ("last.safetensors", "adapter.safetensors",
                                                            "reference.safetensors")}

    def go_on(*flags, code=0):
        for name in ("result.json", "last.safetensors", "adapter.safetensors"):
            (folder / name).unlink(missing_ok=True)
        for checkpoint in sorted((folder / "checkpoints").iterdir())[1:]:
            for file in sorted(checkpoint.rglob("*"), reverse=True):
                file.unlink()
            checkpoint.rmdir()
        return run("finetune", "--run", folder, "--resume", *flags, code=code)

    said = go_on().stderr
    assert "reference:" not in said and "resumed after step" in said
    assert {name: (folder / name).read_bytes() for name in bits} == bits
    (folder / "reference.safetensors").unlink()  # made anew of the same model: the same bits
    assert "reference: 24 train rows" in go_on().stderr
    assert {name: (folder / name).read_bytes() for name in bits} == bits
    (folder / "reference.safetensors").write_bytes(bits["reference.safetensors"][:100])
    assert "reference.safetensors" in go_on(code=1).stderr


def test_processes_backends_and_batches_agree(run, program, files, tiny_archive, tmp_path):
    train = {"steps": 5, "batch_size": 8, "lr": 0.05, "optimizer": "sgd", "momentum": 0, "eval_every": 5}
    for settings in (DPO, ORPO):
        ways = {}
        for name, more in {"plain": {}, "cut": {"batch_size": 2, "accumulate": 4, "group_by_length": False},
                           "whole": {"group_by_length": False},
                           "again": {"gradient_checkpointing": True}}.items():
            folder = finetune(run, tmp_path / f"{settings['loss']}-{name}", tiny_archive("llama"),
                              data_of(files, settings), {"method": "lora"}, {**train, **more},
                              {"dropout": 0.0})
            ways[name] = load_file(folder / "last.safetensors")
        shared = tmp_path / f"{settings['loss']}-shared"
        together(program, 2, "finetune", tmp_path / f"{settings['loss']}-plain" / "config.yaml", "--run", shared)
        ways["shared"] = load_file(shared / "last.safetensors")
        for one, other in (("plain", "shared"), ("plain", "again"), ("cut", "whole")):
            assert max((ways[one][key] - ways[other][key]).abs().max().item() for key in ways[one]) < 2e-6, (settings,
                one, other)
        results = [json.loads((tmp_path / f"{settings['loss']}-{way}" / "result.json").read_text())["test"] for way
                   in ("plain", "shared")]
        assert results[0] == pytest.approx(results[1], abs=1e-5)


def test_half_precision_learns_the_same(run, files, tiny_archive, tmp_path):
    train = {"steps": 20, "batch_size": 8, "lr": 0.01}
    whole = finetune(run, tmp_path / "whole", tiny_archive("llama"), data_of(files, DPO), {"method": "lora"}, train)
    half = finetune(run, tmp_path / "half", tiny_archive("llama"), data_of(files, DPO), {"method": "lora"}, train,
                    {"precision": "bfloat16-always"})
    a, b = (json.loads((folder / "result.json").read_text())["test"] for folder in (whole, half))
    assert a["loss"] < 0.6 and b["loss"] == pytest.approx(a["loss"], abs=0.1)


CHAT = [{"messages": [{"role": "user", "content": f"{NAMES[i % 8]} {i}"}], "chosen": "red",
         "rejected": [{"role": "assistant", "content": "blue"}]} for i in range(12)]
for row in CHAT:
    row["chosen"] = [{"role": "assistant", "content": "red"}]
WHOLE = [{side: row["messages"] + row[side] for side in ("chosen", "rejected")} for row in CHAT]
SHORT = [{**row, "chosen": "red", "rejected": "blue"} for row in CHAT]


def test_conversations_of_every_form_train_alike_and_answer_as_chat_models(run, tiny_archive, tmp_path):
    bits, folders = [], []
    for name, rows in {"chat": CHAT, "whole": WHOLE, "short": SHORT}.items():
        file = write(tmp_path / f"{name}.jsonl", rows)
        data = {"task": "preference", "train": str(file), "dev_share": 0, "chat_template": "chatml",
                "generation": {"max_new_tokens": 6}}
        folders.append(finetune(run, tmp_path / name, tiny_archive("qwen2"), data, {"method": "lora"},
                                {"steps": 3, "batch_size": 4, "lr": 0.01}))
        bits.append((folders[-1] / "last.safetensors").read_bytes())
    assert bits[0] == bits[1] == bits[2]
    said = [texts(run, folders[1], tmp_path / f"{name}.jsonl") for name in ("chat", "whole", "short")]
    assert said[0] == said[1] == said[2] and len(said[0]) == 12
    first = CHAT[0]["messages"][0]["content"]
    assert [json.loads(run("predict", folders[1], "--prompt", first).stdout)["text"]] == said[0][:1]
    assert said[0][0].strip() in run("chat", folders[1], input=first + "\n").stdout


def test_exports_are_those_of_a_language_model_and_scores_stay_with_the_run(run, files, tiny_archive, tiny_folder,
        tiny_program, tmp_path):
    from peft import PeftModel

    folder = finetune(run, tmp_path / "run", tiny_archive("llama"),
                      data_of(files, DPO, generation={"max_new_tokens": 8}), {"method": "deep-lora", "rank": 2},
                      {"steps": 6, "batch_size": 8, "lr": 0.01})
    said = texts(run, folder, files["test"])
    for form, name in (("torchscript", "merged.pt"), ("safetensors", "merged"), ("peft", "peft"),
                       ("gguf", "adapter.gguf")):
        run("export", folder, "--to", form, "--output", tmp_path / name)
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert "AutoModelForCausalLM" in (tmp_path / "merged" / "README.md").read_text()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder("llama")),
                                     tmp_path / "peft").eval()
    ids = torch.tensor([[1, 9, 8, 7, 6]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, peer(ids).logits, rtol=1e-4, atol=1e-4)
    for model in (tmp_path / "merged.pt", tmp_path / "merged"):
        assert texts(run, model, files["test"]) == said
        refused = run("evaluate", model, "--data", files["test"], code=1).stderr
        assert "model as it was before training" in refused and "score the run folder" in refused
    again = finetune(run, tmp_path / "orpo", tiny_program("llama"), data_of(files, ORPO), {"method": "lora"},
                     {"steps": 6, "batch_size": 8, "lr": 0.01})
    for form, name in (("pt2", "orpo.pt2"), ("safetensors", "orpo-merged")):
        run("export", again, "--to", form, "--output", tmp_path / name)
    own = json.loads(run("evaluate", again, "--json").stdout)
    # needs no reference
    other = json.loads(run("evaluate", tmp_path / "orpo-merged", "--data", files["test"], "--json").stdout)
    assert {k: other[k] for k in ("loss", "accuracy", "margin")} == pytest.approx({k: own[k] for k in ("loss",
        "accuracy", "margin")}, abs=1e-4)


def test_rows_of_ids_need_no_tokenizer_and_questions_stay_together(run, files, tiny_archive, tmp_path):
    rng = random.Random(4)
    ids = lambda n: [rng.randrange(5, 60) for _ in range(n)]
    questions = [ids(4) for _ in range(10)]
    rows = [{"input_ids": questions[i % 10], "chosen": ids(rng.randint(1, 4)), "rejected": ids(5)} for i in range(40)]
    data = {"task": "preference", "train": str(write(tmp_path / "ids.jsonl", rows)), "test_share": 0.3}
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), data, {"method": "lora"},
                      {"steps": 2, "batch_size": 8})
    run("evaluate", folder, "--output", tmp_path / "scored.jsonl")
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    lines = {int(row["source"].rsplit(":", 1)[1]) - 1 for row in scored}
    held = {tuple(rows[line]["input_ids"]) for line in lines}
    assert lines == {i for i, row in enumerate(rows) if tuple(row["input_ids"]) in held} and 0 < len(held) < 10
    mean = json.loads((folder / "result.json").read_text())["test"]
    assert sum(row["loss"] for row in scored) / len(scored) == pytest.approx(mean["loss"], abs=1e-9)
    assert sum(row["prediction"] for row in scored) / len(scored) == pytest.approx(mean["margin"], abs=1e-9)


def test_a_file_with_chosen_and_rejected_is_one_of_pairs(run, files, tiny_archive, tmp_path):
    done = run("finetune", "--model", tiny_archive("gpt2"), "--train", files["train"], "--print-config")
    assert yaml.safe_load(done.stdout)["data"]["task"] == "preference" and "columns chosen and rejected" in done.stderr
    run("init", tiny_archive("gpt2"), files["train"], "--output", tmp_path / "made.yaml")
    made = yaml.safe_load((tmp_path / "made.yaml").read_text())
    assert made["data"]["task"] == "preference" and made["data"]["max_length"] >= 16


def test_comparisons_judge_by_what_is_asked(run, files, tiny_archive, tmp_path):
    named = ", ".join(f"{split}: {file}" for split, file in files.items())
    (tmp_path / "compare.yaml").write_text(f"""model: {{path: {tiny_archive("gpt2")}}}
data: {{task: preference, {named}, max_length: 64, metric: accuracy}}
train: {{steps: 2, batch_size: 8}}
compare: {{seeds: 1, methods: [{{name: LoRA, adapter: {{method: lora, rank: 2}}, lr: [1e-3]}}, {{name: whole, adapter: {{method: full}}, lr: [1e-3, 1e-4]}}]}}
""")  # noqa: E501
    assert "accuracy" in run("compare", tmp_path / "compare.yaml", "--run", tmp_path / "run").stdout.splitlines()[0]


def test_trials_of_learning_rates_compare_with_the_same_model(run, files, tiny_archive, tmp_path):
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), data_of(files, DPO), {"method": "full"},
                      {"steps": 6, "batch_size": 8, "lr": "auto"})
    result = json.loads((folder / "result.json").read_text())
    assert len(result["lr_search"]["trials"]) == 5
    own = json.loads(run("evaluate", folder, "--json").stdout)
    assert {key: own[key] for key in result["test"]} == pytest.approx(result["test"], abs=1e-9)
