"""New heads in exported files: the logits of the run whatever the archive's dtype, arguments and padding; and the file
as the model of the next run."""
from __future__ import annotations

import json
from typing import Dict, Optional

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WORDS, WIDTH, PAD = 60, 16, 0


class Mixer(nn.Module):
    """Embedding and a layer over every cell; how its forward is declared is what these tests are about."""

    def __init__(self):
        super().__init__()
        self.embed, self.query, self.out = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def states(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.query(self.embed(ids)))) * 3.0


class OptionalMask(Mixer):
    def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None) -> Tensor:
        return self.states(input_ids)


class OptionalIds(Mixer):
    def forward(self, input_ids: Optional[Tensor] = None, attention_mask: Optional[Tensor] = None) -> Tensor:
        assert input_ids is not None
        return self.states(input_ids)


class Defaults(Mixer):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, scale: float = 1.0, power: int = 1,
                really: bool = True, small: float = 1e-7, kind: str = "it's\n\"so\"",
                mask: Optional[Tensor] = None) -> Tensor:
        x = self.states(input_ids) * scale + small
        if kind != "it's\n\"so\"" or not really or power != 1 or mask is not None:
            x = x * 100.0
        return x


class NoMask(Mixer):
    """Looks at its own padding: other cells do not know how long the row is."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.states(input_ids)


class Nested(Mixer):
    def forward(self, input_ids: Tensor, attention_mask: Tensor):
        return (input_ids, {"it's": self.states(input_ids)})


class DictInput(Mixer):
    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        return self.states(batch["it's ids"]) + batch["mask"].unsqueeze(-1)


class OptionalDict(Mixer):
    def forward(self, batch: Optional[Dict[str, Tensor]] = None) -> Tensor:
        assert batch is not None
        return self.states(batch["ids"])


class TimeFirst(Mixer):
    """[T, B] ids, a bool mask [B, T], states [T, B, D]."""

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        return self.states(tokens).masked_fill(keep.logical_not().transpose(0, 1).unsqueeze(-1), 5.0)


class TimeFirstDict(Mixer):
    """Everything [T, B] and in a dict, and states [B, T, D]."""

    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        return self.states(batch["ids"]).masked_fill(batch["mask"].logical_not().unsqueeze(-1), 5.0).transpose(0, 1)


class Lengths(Mixer):
    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        return self.states(input_ids) / lengths.view(-1, 1, 1)


class OptionalLengths(Mixer):
    def forward(self, input_ids: Tensor, lengths: Optional[Tensor] = None) -> Tensor:
        return self.states(input_ids)


SIGNATURES = {"optional mask": OptionalMask, "optional ids": OptionalIds, "defaults": Defaults, "no mask": NoMask,
              "nested": Nested, "dict": DictInput,
              "optional dict": OptionalDict, "time first": TimeFirst, "time-first dict": TimeFirstDict,
              "lengths": Lengths, "optional lengths": OptionalLengths}
FORMS = {
    "nested": ", output: 1.it's",
    "dict": ", inputs: {input_ids: \"batch.it's ids\", attention_mask: {name: batch.mask, dtype: float}}",
    "optional dict": ", inputs: {input_ids: batch.ids, attention_mask: batch.mask}",
    "time "
    "first": ", inputs: {input_ids: {name: tokens, dtype: int32, layout: time-first}, attention_mask: {name: keep, "
             "dtype: bool}}",
    "time-first "
    "dict": ", inputs: {input_ids: {name: batch.ids, layout: time-first}, attention_mask: {name: batch.mask, dtype: "
            "bool, layout: time-first}}",
}


def called_plainly(signature, module, ids, mask):
    """As its author would call the exported file."""
    if signature == "dict":
        return module({"it's ids": ids, "mask": mask.float()})
    if signature == "optional dict":
        return module({"ids": ids, "mask": mask})
    if signature == "time first":
        return module(ids.t().int(), mask.bool())
    if signature == "time-first dict":
        return module({"ids": ids.t(), "mask": mask.t().bool()})
    if "lengths" in signature:
        return module(ids, mask.sum(1))
    return module(ids) if signature == "no mask" else module(ids, mask)


def rows(folder, task="classification", lowest=1, targets=None):
    draw = torch.Generator().manual_seed(2)
    lines = []
    for i, length in enumerate([9, 1, 4, 7, 2, 12, 3, 5] * 2):
        ids = torch.randint(lowest, WORDS, (length,), generator=draw).tolist()
        lines.append({"input_ids": ids, "label": f"c{i % 3}" if targets is None else targets[i % len(targets)]})
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config(folder, model, data, task="classification", adapter="method: lora, rank: 2, targets: [query]", steps=6,
           extra=""):
    path = folder / "config.yaml"
    path.write_text(f"""model: {{path: {model}, dropout: 0.0{extra}}}
data: {{task: {task}, train: {data}, dev: {data}}}
adapter: {{{adapter}}}
train: {{steps: {steps}, batch_size: 4, lr: 0.02, eval_every: 100}}
""")
    return path


def logits(run, model, data):
    return torch.tensor([json.loads(line)["logits"] for line in run("predict", model, "--input",
        data).stdout.splitlines()], dtype=torch.float64)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_files_give_the_logits_of_the_run_on_rows_of_several_lengths(signature, pooling, run, tmp_path):
    torch.manual_seed(4)
    torch.jit.save(torch.jit.script(SIGNATURES[signature]().eval()), str(tmp_path / "model.pt"))
    data = rows(tmp_path)
    run("finetune", config(tmp_path, tmp_path / "model.pt", data, extra=f", pooling: {pooling}" + FORMS.get(signature,
        "")), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    expected = logits(run, tmp_path / "run", data)
    assert expected.std(0).min() > 1e-3
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", data), expected, rtol=0, atol=1e-5)
    texts = [json.loads(line)["input_ids"] for line in data.read_text().splitlines()]
    ids, mask = torch.full((len(texts), 12), PAD), torch.zeros(len(texts), 12, dtype=torch.int64)
    for i, text in enumerate(texts):
        ids[i, :len(text)], mask[i, :len(text)] = torch.tensor(text), 1
    with torch.no_grad():
        found = called_plainly(signature, torch.jit.load(str(tmp_path / "merged.pt")), ids, mask)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    if signature == "defaults":  # they are the archive's own
        ids = torch.tensor([[3, 4, 5]])
        module = torch.jit.load(str(tmp_path / "merged.pt"))
        assert [a.default_value for a in module.forward.schema.arguments[3:]] == [1.0, 1, True, 1e-7, "it's\n\"so\"",
            None]
        assert not torch.equal(module(ids, torch.ones_like(ids)), module(ids, torch.ones_like(ids), scale=2.0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_head_on_half_precision_keeps_the_targets_mean(dtype, pooling, run, tiny_folder, tmp_path):
    import export_torchscript

    export_torchscript.export(str(tiny_folder("bert")), str(tmp_path / "model.pt"), "encoder", dtype=dtype)
    data = tmp_path / "years.jsonl"
    data.write_text("".join(json.dumps({"input_ids": [5 + i, 6, 7 + i % 3, 8][: 1 + i % 4], "label": 2000 + i}) + "\n"
                            for i in range(25)))
    said = config(tmp_path, tmp_path / "model.pt", data, "regression", steps=40, extra=f", pooling: {pooling}")
    run("finetune", said, "--run", tmp_path / "run")
    said = run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt").stdout
    expected, found = logits(run, tmp_path / "run", data), logits(run, tmp_path / "merged.pt", data)
    spread = expected.std().item()
    assert spread > 1 and (found - expected).abs().max() < 0.1 * spread, said  # one step of bfloat16 at 2000 is 8
    assert {p.dtype for n, p in torch.jit.load(str(tmp_path / "merged.pt")).named_parameters()
            if n.startswith("head.")} == {torch.float64}


def test_means_count_more_tokens_than_half_precision_can(run, tiny_folder, tmp_path):
    """256 + 1 is 256 in bfloat16: of a row of 301 equal states the mean is the state."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.query = nn.Embedding(WORDS, WIDTH, dtype=torch.bfloat16), nn.Linear(WIDTH, WIDTH,
                dtype=torch.bfloat16)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.query(self.embed(input_ids))

    torch.manual_seed(6)
    torch.jit.save(torch.jit.script(Constant().eval()), str(tmp_path / "model.pt"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"input_ids": [5 + i % 7] * length, "label": f"c{i % 2}"}) + "\n" for i,
                            length in enumerate([301, 1] * 4)))
    path = config(tmp_path, tmp_path / "model.pt", data)
    path.write_text(path.read_text().replace("dev:", "max_length: 512, dev:"))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    module = torch.jit.load(str(tmp_path / "merged.pt"))
    long, short = torch.full((1, 301), 9), torch.full((1, 1), 9)
    with torch.no_grad():
        torch.testing.assert_close(module(long, torch.ones_like(long)), module(short, torch.ones_like(short)),
                                   rtol=1e-5, atol=1e-5)
    live = logits(run, tmp_path / "run", data)
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", data), live, rtol=1e-2,
                               atol=1e-2 * live.abs().max().item())


@pytest.mark.parametrize("task, pooling", [("classification", "mean"), ("regression", "cls")])
def test_an_exported_file_is_a_model_with_a_head_for_the_next_run(task, pooling, run, tiny_archive, tiny_folder,
        tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    data = rows(tmp_path, task, 5, None if task == "classification" else [1.5, -2, 7])
    model, heads = tiny_archive("bert", "encoder"), []
    for k in range(3):
        (tmp_path / f"{k}").mkdir()
        path = config(tmp_path / f"{k}", model, data, task, "method: lora, rank: 3, targets: all-linear",
                      extra=f", pooling: {pooling}" if k == 0 else "")
        run("finetune", path, "--run", tmp_path / f"run{k}")
        expected = logits(run, tmp_path / f"run{k}", data)
        model = tmp_path / f"merged{k}.pt"
        run("export", tmp_path / f"run{k}", "--to", "torchscript", "--output", model)
        torch.testing.assert_close(logits(run, model, data), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
        heads.append(dict(torch.jit.load(str(model)).named_parameters())["head.weight"])
        assert json.loads((tmp_path / f"run{k}/result.json").read_text())["family"] == "bert"
        seen = json.loads(run("inspect", model, "--json").stdout)
        assert [site["role"] for site in seen["sites"] if site["path"]
                == "head.weight"] == ["head"] and "head.weight" not in seen["targets"]["all-linear"]
    assert not torch.equal(heads[0], heads[1]) and not torch.equal(heads[1], heads[2])
    # names of the base model's own in other forms, the head beside them
    for form in ("safetensors", "peft"):
        run("export", tmp_path / "run2", "--to", form, "--output", tmp_path / form)
    weights, report = AutoModel.from_pretrained(tmp_path / "safetensors", add_pooling_layer=False,
                                                output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    first = AutoModel.from_pretrained(tiny_folder("bert"), add_pooling_layer=False)
    merged = {name.removeprefix("base.model."): value for name,
              value in torch.jit.load(str(tmp_path / "merged1.pt")).named_parameters() if name.startswith("base.")}
    first.load_state_dict(merged, strict=False)
    adapted = PeftModel.from_pretrained(first.eval(), tmp_path / "peft").eval()
    for loaded, folder in ((weights.eval(), "safetensors"), (adapted, "peft")):
        head = load_file(tmp_path / folder / "head.safetensors")
        for i, line in enumerate(data.read_text().splitlines()):
            with torch.no_grad():
                hidden = loaded(input_ids=torch.tensor([json.loads(line)["input_ids"]]))[0]
            pooled = hidden.mean(1) if pooling == "mean" else hidden[:, 0]
            found = nn.functional.linear(pooled.to(head["weight"].dtype), head["weight"], head["bias"])[0]
            torch.testing.assert_close(found.double(), expected[i], rtol=0, atol=2e-4 * expected.abs().max().item())
    # and trained again on the graph backend, where no family helps
    run("finetune", config(tmp_path / "0", model, data, task, "method: lora, rank: 3, targets: all-linear"), "--set",
        "model.backend=graph", "--run", tmp_path / "graph")
    assert "base/head.weight" in load_file(tmp_path / "graph/adapter.safetensors")
