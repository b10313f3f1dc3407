"""Causal and sequence-to-sequence language models through the program. Oracles: transformers' generate(), PEFT, plain
PyTorch."""
from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import export_torchscript

NAMES = "apple bridge cloud dragon engine forest garden harbor".split()
COLORS = "red blue green white".split()
PROMPTS = ["the cat sat on", "a", "numbers 1 2 3 and", "who is it?", "red green blue"]


def write_rows(path, count, seed, shape=lambda name, color: {"prompt": f"{name} is", "completion": f" {color} today"}):
    rng = random.Random(seed)
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(count):
            out.write(json.dumps(shape(rng.choice(NAMES), rng.choice(COLORS))) + "\n")
    return path


def finetune(run, folder, archive, data, adapter, train, model=None):
    settings = {"model": {"path": str(archive), **(model or {})}, "data": data, "adapter": adapter,
                "train": {"seed": 3, **train}}
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    run("finetune", config, "--run", folder)
    return folder


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def texts(run, target, path, *flags):
    return [json.loads(line)["text"] for line in run("predict", target, "--input", path, *flags).stdout.splitlines()]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "text": p}) + "\n" for p in PROMPTS))
    return path


def untrained(run, tmp_path, archive, task, backend):
    """A run that changes nothing: predict generates with the archive's own weights."""
    data = {"task": task, "train": str(write_rows(tmp_path / "few.jsonl", 4, 1))}
    if task == "seq2seq":
        data.update(text="prompt", target="completion")
    return finetune(run, tmp_path / f"base-{backend}", archive, data, {"method": "none"}, {"steps": 0},
                    {"backend": backend})


def generated(folder, task, length, **options):
    """The same by transformers, one prompt at a time."""
    model_class = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSeq2SeqLM
    model, tokenizer = model_class.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    out = []
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        if task == "seq2seq" and inputs["input_ids"][0, -1] != tokenizer.eos_token_id:
            raise AssertionError("the source must end with the end token")
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=length, do_sample=False, **options)[0]
        fresh = (ids[inputs["input_ids"].shape[1]:] if task == "causal-lm" else ids[1:]).tolist()
        ends = [i for i, token in enumerate(fresh) if token in model.generation_config.eos_token_id]
        fresh = fresh[:ends[0]] if ends else fresh
        out.append(tokenizer.decode(fresh, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return out


@pytest.fixture(scope="module")
def early_end(tiny_folder, tmp_path_factory):
    """early_end(name): (folder, archive, task) of a tiny model with a list of end tokens, one of which it says soon."""
    root, made = tmp_path_factory.mktemp("early"), {}

    def make(name):
        if name in made:
            return made[name]
        task = "seq2seq" if name in ("t5", "bart") else "causal-lm"
        folder = root / name
        shutil.copytree(tiny_folder(name), folder)
        model_class = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSeq2SeqLM
        model, tokenizer = model_class.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
        if task == "seq2seq":  # with their small random weights all texts are the same, or empty
            noise = torch.Generator().manual_seed(5)
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.dim() == 2:
                        weight.add_(0.18 * torch.randn(weight.shape, generator=noise))
            if name == "bart":
                model.final_logits_bias[0, model.config.eos_token_id] -= 20
            model.save_pretrained(folder)
        ids = tokenizer(PROMPTS[0], return_tensors="pt", return_token_type_ids=False)
        new = model.generate(**ids, max_new_tokens=8, do_sample=False)[0][-4].item()
        file = folder / "generation_config.json"
        settings = json.loads(file.read_text())
        settings["eos_token_id"] = [settings["eos_token_id"], new]
        file.write_text(json.dumps(settings))
        archive = root / f"{name}.pt"
        export_torchscript.export(str(folder), str(archive))
        made[name] = folder, archive, task
        return made[name]

    return make


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_greedy_and_beam_search_give_the_texts_of_transformers_with_and_without_a_native_family(name, run, early_end,
        prompts, tmp_path):
    folder, archive, task = early_end(name)
    ways = {
        (): {},
        ("--beams", "4"): {"num_beams": 4},
        ("--beams", "3", "--set", "data.generation.length_penalty=2", "--set", "data.generation.early_stopping=true"):
            {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
        ("--set", "data.generation.repetition_penalty=1.5"): {"repetition_penalty": 1.5},
    }
    expected = {flags: generated(folder, task, 14, **options) for flags, options in ways.items()}
    assert len({tuple(value) for value in expected.values()}) > 2, "the ways give the same texts: nothing is compared"
    for backend in ("graph", "auto"):
        base = untrained(run, tmp_path, archive, task, backend)
        for flags, want in list(expected.items())[:2 if backend == "graph" else None]:
            assert texts(run, base, prompts, "--max-new-tokens", 14, *flags) == want, (backend, flags)


def test_twenty_lora_steps_with_completion_only_loss_equal_those_of_peft(run, tiny_archive, tiny_folder, tmp_path):
    from peft import PeftModel

    rows = write_rows(tmp_path / "rows.jsonl", 12, 5)
    data = {"task": "causal-lm", "train": str(rows)}
    adapter = {"method": "lora", "rank": 4, "alpha": 8, "targets": "all-linear"}
    model = {"dropout": 0.0}
    start = finetune(run, tmp_path / "start", tiny_archive("gpt2"), data, adapter, {"steps": 0}, model)
    run("export", start, "--to", "peft", "--output", tmp_path / "peft")
    fresh = finetune(run, tmp_path / "fresh", tiny_archive("gpt2"), data,
                     {**adapter, "path": str(start / "adapter.safetensors")},
                     {"steps": 20, "batch_size": 12, "lr": 0.01, "schedule": "constant", "clip": 0, "log_every": 1},
                     model)
    losses = [row["loss"] for row in metrics(fresh) if "loss" in row]

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder("gpt2"))
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder("gpt2")), tmp_path / "peft",
                                     is_trainable=True).eval()
    batch = []
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        prompt, answer = tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"] + [
            tokenizer.eos_token_id]
        batch.append((prompt + answer, [-100] * len(prompt) + answer))
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch])
    labels = torch.tensor([wanted + [-100] * (width - len(wanted)) for _, wanted in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in batch])
    optimizer = torch.optim.AdamW([p for p in peer.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    expected = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = peer(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=2e-4)  # float32: rounding grows a little over the steps
    assert expected[-1] < 0.7 * expected[0]


@pytest.mark.parametrize("name, task, method", [("gpt2", "causal-lm", "lora"), ("llama", "causal-lm", "deep-lora"),
                                                ("t5", "seq2seq", "lora"),
                                                ("bart", "seq2seq", "full")])
def test_merged_models_give_the_logits_and_texts_of_the_run(name, task, method, run, tiny_archive, early_end, prompts,
                                                            tmp_path):
    archive = early_end(name)[1] if name == "bart" else tiny_archive(name)
    rows = write_rows(tmp_path / "rows.jsonl", 24, 5)
    data = {"task": task, "train": str(rows), "dev": str(rows), "test": str(rows), "generate": "test",
            "generation": {"max_new_tokens": 8}}
    if task == "seq2seq":
        data.update(text="prompt", target="completion")
    folder = finetune(run, tmp_path / "run", archive, data, {"method": method}, {"steps": 12, "batch_size": 8,
        "lr": 0.01})
    result = json.loads((folder / "result.json").read_text())
    assert set(result["test"]) == {"loss", "perplexity", "exact_match", "bleu", "rouge1", "rouge2", "rougeL", "chrf"}
    assert set(result["best"]) == {"loss", "perplexity", "step"}
    scored = json.loads(run("evaluate", folder, "--json").stdout)
    assert all(scored[key] == pytest.approx(value, rel=1e-5, abs=1e-7) for key, value in result["test"].items())

    merged = tmp_path / "merged.pt"
    run("export", folder, "--to", "torchscript", "--output", merged)
    for flags in ((), ("--beams", "3"), ("--temperature", "0.8", "--seed", "7")):
        live = texts(run, folder, prompts, *flags)
        assert texts(run, merged, prompts, *flags) == live
        assert len(set(live)) > 1 or flags == (), live
    reloaded = torch.jit.load(str(merged))
    ids = torch.tensor([[5, 6, 7, 8]])
    extra = {"decoder_input_ids": ids[:, :3], "decoder_attention_mask": torch.ones(1, 3,
        dtype=torch.long)} if task == "seq2seq" else {}
    assert reloaded(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).dim() == 3


def test_merged_safetensors_and_the_peft_adapter_give_the_same_logits_in_transformers(run, tiny_archive, tiny_folder,
        tmp_path):
    from peft import PeftModel

    rows = write_rows(tmp_path / "rows.jsonl", 24, 5)
    folder = finetune(run, tmp_path / "run", tiny_archive("llama"), {"task": "causal-lm", "train": str(rows)},
                      {"method": "lora"},
                      {"steps": 8, "batch_size": 8, "lr": 0.01})
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    run("export", folder, "--to", "peft", "--output", tmp_path / "peft")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder("llama")),
                                     tmp_path / "peft").eval()
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    ids = torch.tensor([[1, 9, 8, 7, 6]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, peer(ids).logits, rtol=1e-5, atol=1e-5)
        assert (merged(ids).logits - AutoModelForCausalLM.from_pretrained(tiny_folder("llama"))(
            ids).logits).abs().max() > 1e-3


def test_plain_text_is_packed_and_learnt(run, tiny_archive, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(NAMES[i % 8:] + COLORS) + ("\n" if i % 3 == 0 else "") for i in range(60)))
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), {"task": "causal-lm", "train": str(text),
        "dev": str(text), "max_length": 32},
                      {"method": "lora"}, {"epochs": 3, "batch_size": 4, "lr": 0.01})
    result = json.loads((folder / "result.json").read_text())
    evaluations = [row["eval"]["loss"] for row in metrics(folder) if "eval" in row]
    assert evaluations == sorted(evaluations, reverse=True) and evaluations[-1] < 0.95 * evaluations[0]
    assert result["rows"]["train"] == 21  # documents between blank lines, not lines
    assert result["best"]["perplexity"] == pytest.approx(torch.tensor(result["best"]["loss"]).exp().item(), rel=1e-4)


def test_conversations_are_learnt_and_a_prompt_is_a_message(run, tiny_archive, tmp_path):
    rows = write_rows(tmp_path / "chat.jsonl", 24, 5, lambda name, color: {"messages": [
        {"role": "user", "content": f"{name}?"}, {"role": "assistant", "content": f"{name} {name}"}]})
    data = {"task": "causal-lm", "train": str(rows), "chat_template": "chatml", "generation": {"max_new_tokens": 12}}
    folder = finetune(run, tmp_path / "run", tiny_archive("gpt2"), data, {"method": "lora"},
                      {"steps": 5, "batch_size": 8})
    messages = tmp_path / "messages.jsonl"
    messages.write_text(json.dumps({"messages": [{"role": "user", "content": "cloud?"}]}) + "\n")
    said = texts(run, folder, messages)
    assert [json.loads(run("predict", folder, "--prompt", "cloud?").stdout)["text"]] == said
    without = {key: value for key, value in data.items() if key != "chat_template"}
    config = tmp_path / "without.yaml"
    config.write_text(yaml.safe_dump({"model": {"path": str(tiny_archive("gpt2"))}, "data": without}))
    done = run("finetune", config, "--run", tmp_path / "none", code=1)
    assert "chat template" in done.stderr and "chatml, gemma" in done.stderr


def test_an_untrained_t5_learns_to_rewrite(run, tmp_path):
    # The claim: from random weights to sentences about restaurants that were never seen, word for word.
    import make_rewrite_task

    make_rewrite_task.make(str(tmp_path))
    files = [f"--set=data.{split}={tmp_path / split}.jsonl" for split in ("train", "dev", "test")]
    run("finetune", "configs/rewrite_t5.yaml", "--run", tmp_path / "run", f"--set=model.path={tmp_path / 't5.pt'}",
        *files)
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert scores["exact_match"] > 0.5 and scores["bleu"] > 80 and scores["loss"] < 0.1, scores


def test_a_prompt_on_a_terminal_is_answered_in_plain_text_as_it_grows(program, run, tiny_archive, tmp_path):
    import os
    import pty

    base = untrained(run, tmp_path, tiny_archive("gpt2"), "causal-lm", "auto")
    arguments = ["predict", str(base), "--prompt", PROMPTS[0], "--max-new-tokens", "12"]
    said = json.loads(run(*arguments).stdout)["text"]
    shown = b""

    def read(terminal):
        nonlocal shown
        part = os.read(terminal, 1024)
        shown += part
        return part

    assert pty.spawn([str(program), *arguments], read) == 0
    text = shown.decode().replace("\r\n", "\n")
    assert text.endswith(said + "\n") and "{" not in text.replace(said, "")


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_report_shows_what_the_model_said_before_training_beside_what_it_says_after(name, run, early_end, prompts,
        tmp_path):
    import html
    import re

    folder, archive, task = early_end(name)
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps({"prompt": p, "completion": " red today"}) + "\n" for p in PROMPTS))
    data = {"task": task, "train": str(write_rows(tmp_path / "train.jsonl", 40, 1)),
            "dev": str(write_rows(tmp_path / "dev.jsonl", 5, 2)), "test": str(test),
            "generate": "test", "generation": {"max_new_tokens": 14}, **({"text": "prompt", "target": "completion"}
                if task == "seq2seq" else {})}
    out = finetune(run, tmp_path / "run", archive, data, {"method": "lora", "targets": "attention-mlp"},
                   {"steps": 12, "batch_size": 8, "lr": 0.02})
    page = (out / "report.html").read_text()
    section = page[page.index("Generated on test"):]
    header = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", section)[:4]
    assert header == ["prompt", "expected", "before training", "generated after training"]
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", section[:section.index("</table>")],
                                                        re.DOTALL)]
    before, after = generated(folder, task, 14), texts(run, out, prompts, "--max-new-tokens", 14)

    def shown(said):  # a page has no control characters
        return [re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text) for text in said]

    assert cells[0::4] == PROMPTS and cells[2::4] == shown(before) and cells[3::4] == shown(after)
    assert before != after
