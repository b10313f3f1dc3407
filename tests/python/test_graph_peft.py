"""Training through backend: graph against PEFT in PyTorch: the same factors, head, rows and optimizer for 20 steps,
full batches."""
from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import save_file

from beside_peft import assert_factors_of_peft, logged_losses

STEPS, LR, CLASSES = 20, 5e-3, 2


def bert(tiny_archive, tiny_folder, folder):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tiny_folder("bert"), add_pooling_layer=False).eval()
    return tiny_archive("bert", "encoder"), model, ["query", "value", "dense"]


def gpt2(tiny_archive, tiny_folder, folder):
    """GPT-2 without its output layer: Conv1D weights [in, out], query, key and value fused."""
    import torchscript_tracing
    from transformers import GPT2Model

    model = GPT2Model.from_pretrained(tiny_folder("gpt2"), attn_implementation="eager").eval()
    wrapper = torchscript_tracing.CausalWrapper(model, True).eval()
    sample = tuple(torchscript_tracing.example(wrapper, 2, 7, "right", 0).values())
    traced = torch.jit.trace(wrapper, sample, check_trace=False)
    files = {"config.json": (tiny_folder("gpt2") / "config.json").read_bytes(),
             "export.json": json.dumps({"prefix": "model.", "output": "hidden"}).encode()}
    torch.jit.save(traced, str(folder / "gpt2.pt"), _extra_files=files)
    return folder / "gpt2.pt", model, ["c_attn", "c_proj", "c_fc"]


def bert_program(tiny_archive, tiny_folder, folder):
    """The same as a program of torch.export."""
    import export_torchscript

    _, model, targets = bert(tiny_archive, tiny_folder, folder)
    export_torchscript.export(str(tiny_folder("bert")), str(folder / "bert.pt2"), "encoder")
    return folder / "bert.pt2", model, targets


def gpt2_program(tiny_archive, tiny_folder, folder):
    import torch_exporting
    import torchscript_tracing

    _, model, targets = gpt2(tiny_archive, tiny_folder, folder)
    wrapper = torchscript_tracing.CausalWrapper(model, True).eval()
    inputs = torchscript_tracing.example(wrapper, 2, 7, "right", 0)
    program = torch.export.export(wrapper, (), inputs, dynamic_shapes=torch_exporting.dynamic_shapes(inputs))
    files = {"config.json": (tiny_folder("gpt2") / "config.json").read_text(),
             "export.json": json.dumps({"prefix": "model.", "output": "hidden"})}
    torch.export.save(program, folder / "gpt2.pt2", extra_files=files)
    return folder / "gpt2.pt2", model, targets


def batch(path, pad: int):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ids = torch.full((len(rows), max(len(row["input_ids"]) for row in rows)), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, :len(row["input_ids"])], mask[i, :len(row["input_ids"])] = torch.tensor(row["input_ids"]), 1
    return ids, mask, torch.tensor([row["label"] for row in rows])


def train_with_peft(peft, head, ids, mask, labels) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=LR, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        hidden = peft(input_ids=ids, attention_mask=mask)[0]
        keep = mask.unsqueeze(-1).to(hidden.dtype)
        logits = torch.nn.functional.linear((hidden * keep).sum(1) / keep.sum(1), head["weight"], head["bias"])
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("make", [bert, gpt2, bert_program, gpt2_program])
def test_twenty_steps_equal_peft(make, run, tiny_archive, tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    archive, model, targets = make(tiny_archive, tiny_folder, tmp_path)
    rng = random.Random(2)
    examples = [[rng.randrange(5, 55) for _ in range(rng.randint(4, 9))] for _ in range(12)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": ids, "label": sum(ids) % CLASSES}) + "\n" for ids in examples))
    torch.manual_seed(3)
    peft = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=targets))
    for name, value in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    head = {"weight": torch.randn(CLASSES, 32) * 0.3, "bias": torch.randn(CLASSES) * 0.1}
    peft.save_pretrained(tmp_path / "peft")
    save_file(head, tmp_path / "peft" / "head.safetensors")
    (tmp_path / "config.yaml").write_text(f"""model: {{path: {archive}, backend: graph, dropout: 0.0}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{path: {tmp_path / 'peft'}}}
head: {{train: false, dropout: 0.0}}
train: {{steps: {STEPS}, batch_size: {len(examples)}, lr: {LR}, schedule: constant, clip: 0, log_every: 1, eval_every: {STEPS}}}
""")  # noqa: E501
    run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run")
    losses = logged_losses(tmp_path / "run")
    expected = train_with_peft(peft.eval(), head, *batch(rows, model.config.pad_token_id or 0))
    assert len(losses) == STEPS and losses[-1] < 0.95 * losses[0]
    assert losses == pytest.approx(expected, abs=2e-4)  # float32 and Adam's division: rounding grows with the steps
    run("evaluate", tmp_path / "run", "--data", rows, "--last")
    assert_factors_of_peft(tmp_path / "run", peft, "model.", 2e-3)
