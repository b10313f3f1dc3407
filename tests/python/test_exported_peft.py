"""Training through programs of torch.export (.pt2) against PEFT in PyTorch, for every architecture of
docs/graph-models.md: the same factors, rows and optimizer for 20 steps, full batches, each model under its own task;
as exported, and decomposed. DEEPLORA_DRAWS=100 takes all of them, the default a few."""
from __future__ import annotations

import json
import os
import random

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, linear

import graph_models
import make_tiny_models
from beside_peft import assert_factors_of_peft, logged_losses
from test_exported_oracle import exported

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, LR, ROWS, IGNORED = 20, 5e-3, 10, -100
# Not the LSTM, which torch.export unrolls over a fixed length, and not torch-encoder, whose fused path PEFT does not
# reach.
PLAIN = {"scripted-transformer": (graph_models.LoopedTransformer, "classifier"),
         "shared-blocks": (graph_models.SharedBlocks, "causal-lm")}
FEW = {("albert", False), ("bert", True), ("t5", False)}
ALL = [(name, decomposed) for name in [*make_tiny_models.MODELS, *PLAIN] for decomposed in (False, True)]
CASES = ALL if int(os.environ.get("DEEPLORA_DRAWS", 1)) >= len(ALL) else [case for case in ALL if case in FEW]
TASKS = {"encoder": "classification", "classifier": "classification", "causal-lm": "causal-lm", "seq2seq": "seq2seq"}
HEADS = ("lm_head", "embed_out", "classifier", "pooler")  # what all-linear leaves out
SHORT = "short"  # of a branch for short rows, which torch.export does not take in


class Subject:
    """A model as PyTorch has it and as a program, with the names that the program's settings need."""

    def __init__(self, name: str, decomposed: bool, tiny_folder, folder):
        self.path = folder / "model.pt2"
        self.files, self.prefix, self.labels, self.settings = {}, "", ["a", "b"], {}
        if name in PLAIN:
            torch.manual_seed(0)
            kind, self.kind = PLAIN[name]
            self.wrapper = self.model = kind().eval()
            free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
            self.names = list(graph_models.INPUTS.get(name, {"input_ids": "input_ids",
                                                             "attention_mask": "attention_mask"}).values())
            program = torch.export.export(self.wrapper, (), dict(zip(self.names, graph_models.sample(9))),
                                          dynamic_shapes={name: free for name in self.names})
            self.settings = {"inputs": graph_models.INPUTS[name]} if name in graph_models.INPUTS else {}
        else:
            program = self.from_folder(tiny_folder(name))
        self.task = TASKS[self.kind]
        if decomposed:
            program = program.run_decompositions()
        torch.export.save(program, self.path, extra_files=self.files)

    def from_folder(self, folder):
        import export_torchscript
        import torchscript_tracing

        config = export_torchscript.load_config(str(folder))
        self.kind, self.prefix = export_torchscript.choose_task(config, None), "model."
        self.wrapper, program = exported(folder, torch.float32)
        self.model, self.names = self.wrapper.model, torchscript_tracing.input_names(self.wrapper)
        files = export_torchscript.extra_files(str(folder), self.wrapper, self.kind, "float32")
        self.files = {name: files[name].decode() for name in ("config.json", "export.json")}
        self.start = getattr(config, "decoder_start_token_id", None)
        if self.kind == "classifier":
            self.labels = [config.id2label[i] for i in range(config.num_labels)]
        return program

    def targets(self) -> list[str]:
        return [name for name, module in self.model.named_modules()
                if type(module).__name__ in ("Linear", "Conv1D") and not set(name.split(".")) & {*HEADS, SHORT}]

    def rows(self) -> list[dict]:
        rng = random.Random(2)
        out = []
        for _ in range(ROWS):
            ids = [rng.randrange(5, 50) for _ in range(rng.randint(5, 9))]
            more = {"classification": {"label": self.labels[sum(ids) % len(self.labels)]}, "causal-lm": {},
                    "seq2seq": {"labels": ids[::-1][:rng.randint(2, 5)]}}[self.task]
            out.append({"input_ids": ids, **more})
        return out

    def batch(self, rows) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        ids = padded([row["input_ids"] for row in rows], self.pad())
        mask = padded([[1] * len(row["input_ids"]) for row in rows], 0)
        values = {"input_ids": ids, "tokens": ids, "attention_mask": mask, "keep": mask,
                  "token_type_ids": torch.zeros_like(ids)}
        if self.task == "classification":
            labels = torch.tensor([self.labels.index(row["label"]) for row in rows])
        elif self.task == "causal-lm":
            labels = padded([row["input_ids"][1:] + [IGNORED] for row in rows], IGNORED)
        else:
            labels = padded([row["labels"] for row in rows], IGNORED)
            values["decoder_input_ids"] = padded([[self.start, *row["labels"][:-1]] for row in rows], self.pad())
            values["decoder_attention_mask"] = padded([[1] * len(row["labels"]) for row in rows], 0)
        return {name: values[name] for name in self.names}, labels

    def pad(self) -> int:
        return getattr(getattr(self.model, "config", None), "pad_token_id", None) or 0


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    out = torch.full((len(rows), max(map(len, rows))), value)
    for i, row in enumerate(rows):
        out[i, :len(row)] = torch.tensor(row)
    return out


def first_tensor(value):
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


def train_with_peft(subject, peft, head, rows) -> list[float]:
    inputs, labels = subject.batch(rows)
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=LR, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        out = first_tensor(subject.wrapper(**inputs))
        if head:
            keep = padded([[1] * len(row["input_ids"]) for row in rows], 0).unsqueeze(-1).to(out.dtype)
            out = linear((out * keep).sum(1) / keep.sum(1), head["weight"], head["bias"])
        loss = cross_entropy(out.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name, decomposed", CASES)
def test_twenty_steps_equal_peft(name, decomposed, run, tiny_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    subject = Subject(name, decomposed, tiny_folder, tmp_path)
    rows = subject.rows()
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.manual_seed(3)
    peft = get_peft_model(subject.model, LoraConfig(r=3, lora_alpha=6, target_modules=subject.targets()))
    for key, value in peft.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.05)
    peft.save_pretrained(tmp_path / "peft")
    head = {}
    if subject.kind == "encoder":
        width = first_tensor(subject.wrapper(**subject.batch(rows)[0])).size(-1)
        head = {"weight": torch.randn(2, width) * 0.3, "bias": torch.randn(2) * 0.1}
        save_file(head, tmp_path / "peft" / "head.safetensors")
    settings = {"model": {"path": str(subject.path), "backend": "graph", "dropout": 0.0, **subject.settings},
                "data": {"task": subject.task, "train": str(data), "dev": str(data)},
                "adapter": {"path": str(tmp_path / "peft")},
                "train": {"steps": STEPS, "batch_size": ROWS, "lr": LR, "schedule": "constant", "clip": 0,
                          "log_every": 1, "eval_every": STEPS}}
    if subject.task == "causal-lm":
        settings["data"]["pack"] = False
    if subject.task == "classification":
        settings["head"] = {"train": False, "dropout": 0.0}
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    run("finetune", tmp_path / "config.yaml", "--run", tmp_path / "run")
    losses = logged_losses(tmp_path / "run")
    expected = train_with_peft(subject, peft.eval(), head, rows)
    print(name, decomposed, "losses", max(abs(a - b) for a, b in zip(losses, expected)), losses[0], losses[-1])
    assert len(losses) == STEPS and losses[-1] < 0.98 * losses[0]
    assert losses == pytest.approx(expected, abs=3e-4)  # float32 and Adam's division: rounding grows with the steps
    run("evaluate", tmp_path / "run", "--data", data, "--last")
    assert assert_factors_of_peft(tmp_path / "run", peft, subject.prefix, 3e-3) >= 2
