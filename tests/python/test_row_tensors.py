"""Rows that carry tensors by name: models without tokens, or with numbers beside them. Oracles: PyTorch's own training
of the same module from the same start, torch.jit.load of the merged file, and scikit-learn."""
from __future__ import annotations

import json
import random
from typing import Dict

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

import graph_oracle

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, LR, ROWS = 12, 0.02, 8


class Regressor(nn.Module):
    """Float features in, numbers out."""

    def __init__(self, features: int = 5, targets: int = 1):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(features, 16), nn.Linear(16, 16), nn.Linear(16, targets)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Mixed(nn.Module):
    """Numbers, ids of a table, an image and flags."""

    def __init__(self):
        super().__init__()
        self.table, self.conv, self.join, self.out = nn.Embedding(7, 6), nn.Conv2d(1, 3, 3), nn.Linear(6 + 3 + 4 + 1,
            12), nn.Linear(12, 3)

    def forward(self, features: Tensor, kinds: Tensor, image: Tensor, flag: Tensor) -> Tensor:
        parts = [self.table(kinds).mean(1), torch.relu(self.conv(image)).mean([2, 3]), features,
                 flag.to(features.dtype).unsqueeze(1)]
        return self.out(torch.tanh(self.join(torch.cat(parts, 1))))


class Series(nn.Module):
    """States of a time series, times first, from a dict."""

    def __init__(self):
        super().__init__()
        self.rnn, self.mix = nn.GRU(2, 8), nn.Linear(8, 8)

    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        return self.mix(self.rnn(batch["values"])[0]).transpose(0, 1)


class Beside(nn.Module):
    """Token ids with numbers beside them."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(40, 8), nn.Linear(8 + 2, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, numbers: Tensor) -> Tensor:
        keep = attention_mask.unsqueeze(-1).to(torch.float)
        pooled = (self.embed(input_ids) * keep).sum(1) / keep.sum(1)
        return self.out(torch.tanh(self.mix(torch.cat([pooled, numbers], 1))))


def saved(model: nn.Module, path, dtype=torch.float32):
    torch.jit.save(torch.jit.script(model.to(dtype).eval()), str(path))
    return path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbers(rng, *shape):
    return [numbers(rng, *shape[1:]) for _ in range(shape[0])] if shape else round(rng.uniform(-2, 2), 4)


def regression_rows(count, seed, targets=1):
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        x = numbers(rng, 5)
        label = [300 + 40 * (x[i] - x[i + 1] * x[2]) for i in range(targets)]
        out.append({"x": x, "label": label if targets > 1 else label[0]})
    return out


def mixed_rows(count, seed):
    rng = random.Random(seed)
    return [{"numbers": numbers(rng, 4), "kinds": [rng.randrange(7) for _ in range(3)], "image": numbers(rng, 1, 4, 5),
             "flag": rng.random() < 0.5,
             "label": "abc"[i % 3]} for i in range(count)]


def configure(path, archive, train, task="regression", adapter="method: lora, rank: 2", inputs="", data="", training="",
              dev=None):
    path.write_text(f"""model: {{path: {archive}{inputs}}}
data: {{task: {task}, train: {train}, dev: {dev or train}{data}}}
adapter: {{{adapter}}}
train: {{steps: {STEPS}, batch_size: {ROWS}, lr: {LR}, head_lr: {LR}, schedule: constant, clip: 0, shuffle: false, keep: last, eval_every: {STEPS}, log_every: 1{training}}}
""")  # noqa: E501
    return path


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def logits(run, model, rows):
    return torch.tensor([row["logits"] for row in lines(run("predict", model, "--input", rows).stdout)],
                        dtype=torch.float64)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["lora, rank: 2, alpha: 6", "deep-lora, rank: 2, depth: 3", "full"])
def test_training_is_that_of_pytorch_from_the_same_start(method, dtype, targets, run, tmp_path):
    torch.manual_seed(1)
    model = Regressor(targets=targets)
    archive = saved(model, tmp_path / "m.pt", dtype)
    rows = regression_rows(3 * ROWS, 2, targets)
    train = write(tmp_path / "train.jsonl", rows)
    config = configure(tmp_path / "c.yaml", archive, train, adapter=f"method: {method}")
    for name, steps in (("start", 0), ("run", STEPS)):
        run("finetune", config, "--run", tmp_path / name, "--set", f"train.steps={steps}")
    start, end = (load_file(tmp_path / name / "adapter.safetensors") for name in ("start", "run"))
    trained = {key: value.clone().requires_grad_(True) for key, value in start.items()}
    factors = {key: value for key, value in trained.items() if key.startswith("adapter/")}
    alpha = 6.0 if method.startswith("lora") else None
    x = torch.tensor([row["x"] for row in rows], dtype=dtype)
    y = torch.tensor([row["label"] for row in rows], dtype=torch.float64).view(len(rows), targets)
    y = (y - y.mean(0)) / y.std(0, correction=0)
    raw = torch.tensor([row["label"] for row in rows], dtype=torch.float64).view(len(rows), targets)
    mean, spread = raw.mean(0), raw.std(0, correction=0)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    # The chains start as torch has them: a learning rate per factor is the method's own affair, so gradients are
    # compared for them, steps for the rest.
    rates = 0.0 if method.startswith("deep-lora") else LR
    optimizer = torch.optim.AdamW([{"params": list(trained.values()), "lr": rates or LR}], weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        at = slice(step % 3 * ROWS, step % 3 * ROWS + ROWS)
        changed = dict(weights)
        for site, delta in graph_oracle.deltas_of(factors, alpha).items():
            changed[site] = weights[site] + delta.to(dtype)
        changed.update({key.removeprefix("base/"): value.to(dtype) for key, value in trained.items()
                        if key.startswith("base/")})
        out = functional_call(model, changed, (x[at],)).double()
        loss = (((out - mean) / spread - y[at].to(torch.float32)) ** 2).mean(1).mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if not rates:
            break
        optimizer.step()
    logged = [row["loss"] for row in lines((tmp_path / "run" / "metrics.jsonl").read_text()) if "loss" in row]
    assert logged[:len(losses)] == pytest.approx(losses, rel=2e-4)
    if rates:
        assert len(losses) == STEPS
        for key, value in trained.items():
            torch.testing.assert_close(end[key].double(), value.detach().double(), rtol=2e-3, atol=2e-4, msg=lambda m,
                                       key=key: f"{key}: {m}")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    merged = torch.jit.load(str(tmp_path / "merged.pt"))
    with torch.no_grad():
        expected = merged(x).double()
    live = logits(run, tmp_path / "run", train)
    assert (live - model(x).double()).abs().max() > 1e-3
    torch.testing.assert_close(live, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", train), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_ids_images_and_flags_in_one_row(dtype, run, tmp_path):
    torch.manual_seed(2)
    archive = saved(Mixed(), tmp_path / "m.pt", dtype)
    train, test = write(tmp_path / "train.jsonl", mixed_rows(24, 3)), write(tmp_path / "test.jsonl", mixed_rows(9, 4))
    config = configure(tmp_path / "c.yaml", archive, train, "classification",
                       "method: lora, rank: 2, targets: all-weights", ", inputs: {numbers: features}")
    said = run("finetune", config, "--run", tmp_path / "run").stderr
    kind = str(dtype).removeprefix("torch.")
    assert f"numbers [4] {kind}, kinds [3] int64, image [1, 4, 5] {kind}, flag bool" in said
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    rows = lines(test.read_text())
    values = [torch.tensor([row["numbers"] for row in rows]).to(dtype), torch.tensor([row["kinds"] for row in rows]),
              torch.tensor([row["image"] for row in rows]).to(dtype), torch.tensor([row["flag"] for row in rows])]
    with torch.no_grad():
        before = torch.jit.load(str(archive))(*values).double()
        expected = torch.jit.load(str(tmp_path / "merged.pt"))(*values).double()
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    live = logits(run, tmp_path / "run", test)
    assert (expected - before).abs().max() > 1e-2
    torch.testing.assert_close(live, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", test), expected, rtol=0, atol=1e-6)
    score = json.loads(run("evaluate", tmp_path / "run", "--data", test, "--json").stdout)
    right = sum("abc"[int(i)] == row["label"] for i, row in zip(live.argmax(1), rows))
    assert score["accuracy"] == pytest.approx(right / len(rows))
    moved = {name for name, value in torch.jit.load(str(archive)).state_dict().items()
             if not torch.equal(value, torch.jit.load(str(tmp_path / "merged.pt")).state_dict()[name])}
    assert moved == {"table.weight", "conv.weight", "join.weight", "out.weight", "out.bias"}


def test_scores_of_several_targets_are_means_over_them(run, tmp_path):
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, root_mean_squared_error

    torch.manual_seed(3)
    archive, rows = saved(Regressor(targets=2), tmp_path / "m.pt"), regression_rows(20, 5, 2)
    train = write(tmp_path / "train.jsonl", rows)
    run("finetune", configure(tmp_path / "c.yaml", archive, train), "--run", tmp_path / "run")
    predictions = lines(run("predict", tmp_path / "run", "--input", train).stdout)
    assert all(row["prediction"] == row["logits"] and len(row["logits"]) == 2 for row in predictions)
    found, expected = ([row[key] for row in where] for where, key in ((predictions, "logits"), (rows, "label")))
    scores = json.loads(run("evaluate", tmp_path / "run", "--data", train, "--json").stdout)
    columns = [([row[i] for row in found], [row[i] for row in expected]) for i in range(2)]
    assert scores["pearson"] == pytest.approx(sum(pearsonr(*pair)[0] for pair in columns) / 2)
    assert scores["spearman"] == pytest.approx(sum(spearmanr(*pair)[0] for pair in columns) / 2)
    assert scores["mse"] == pytest.approx(mean_squared_error(expected, found))
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(expected, found))
    assert scores["mae"] == pytest.approx(mean_absolute_error(expected, found))


@pytest.mark.parametrize("layout", ["time-first"])
def test_a_new_head_pools_the_states_of_a_series(layout, run, tmp_path):
    torch.manual_seed(4)
    archive = saved(Series(), tmp_path / "m.pt")
    rng = random.Random(6)
    train = write(tmp_path / "train.jsonl", [{"series": numbers(rng, 7, 2), "label": "up" if i % 2 else "down"} for i
                                             in range(16)])
    inputs = f", pooling: last, inputs: {{series: {{name: batch.values, layout: {layout}}}}}"
    config = configure(tmp_path / "c.yaml", archive, train, "classification",
                       "method: lora, rank: 2, targets: [recurrent, '*mix*']", inputs)
    run("finetune", config, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    values = torch.tensor([row["series"] for row in lines(train.read_text())]).transpose(0, 1)
    with torch.no_grad():
        expected = torch.jit.load(str(tmp_path / "merged.pt"))({"values": values}).double()
    torch.testing.assert_close(logits(run, tmp_path / "run", train), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", train), expected, rtol=0, atol=1e-6)


def test_numbers_beside_token_ids(run, tmp_path):
    torch.manual_seed(5)
    archive = saved(Beside(), tmp_path / "m.pt")
    rng = random.Random(7)
    rows = [{"input_ids": [rng.randrange(1, 40) for _ in range(rng.randint(2, 6))], "numbers": numbers(rng, 2),
             "label": i % 2} for i in range(16)]
    train = write(tmp_path / "train.jsonl", rows)
    run("finetune", configure(tmp_path / "c.yaml", archive, train, "classification"), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    merged = torch.jit.load(str(tmp_path / "merged.pt"))
    with torch.no_grad():
        expected = torch.cat([merged(torch.tensor([row["input_ids"]]), torch.ones(1, len(row["input_ids"]),
            dtype=torch.int64), torch.tensor([row["numbers"]]))
                              for row in rows]).double()
    torch.testing.assert_close(logits(run, tmp_path / "run", train), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(run, tmp_path / "merged.pt", train), expected, rtol=0, atol=1e-5)


def test_whole_numbers_are_what_the_model_takes(run, tmp_path):
    torch.manual_seed(6)
    rng = random.Random(8)
    rows = [{"x": [rng.randrange(5) for _ in range(5)], "label": i} for i in range(16)]
    train = write(tmp_path / "train.jsonl", rows)
    said = run("finetune", configure(tmp_path / "c.yaml", saved(Regressor(), tmp_path / "m.pt"), train), "--run",
               tmp_path / "run").stderr
    assert "x [5] float32" in said
    failed = run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "no", "--set",
                 "model.inputs.x={name: x, dtype: int64}", code=1).stderr
    assert "its forward fails on a batch of x [2, 5]" in failed and "mat1 and mat2 must have the same dtype" in failed


def test_ids_beyond_a_table_name_their_row(run, tmp_path):
    torch.manual_seed(7)
    archive, rows = saved(Mixed(), tmp_path / "m.pt"), mixed_rows(24, 9)
    train = write(tmp_path / "train.jsonl", rows)
    rows[5]["kinds"] = [1, 7, 2]
    dev = write(tmp_path / "dev.jsonl", rows)
    config = configure(tmp_path / "c.yaml", archive, train, "classification", inputs=", inputs: {numbers: features}",
                       dev=dev)
    failed = run("finetune", config, "--run", tmp_path / "run", code=1).stderr
    assert "dev.jsonl:6: the model cannot read this row's kinds, which holds 7 (in the training rows: 0 to 6)" in failed
    rows[5]["kinds"] = [1, 1.5, 2]
    write(dev, rows)
    failed = run("finetune", config, "--run", tmp_path / "run2", code=1).stderr
    assert "dev.jsonl:6: kinds: expected whole numbers as in the training rows, found 1.5" in failed


WRONG = {
    "no field": ({"label": 1.0}, "train.jsonl:3: no field 'x', which the model takes as a tensor; fields there: label"),
    "another length": ({"x": [1.0, 2.0, 3.0, 4.0], "label": 1.0},
                       "train.jsonl:3: x: expected [5] as in the first training row, found [4]"),
    "more dimensions": ({"x": [[1.0, 2.0, 3.0, 4.0, 5.0]], "label": 1.0},
                        "train.jsonl:3: x: expected [5] as in the first training row, found [1, 5]"),
    "a text among numbers": ({"x": [1.0, 2.0, "3", 4.0, 5.0], "label": 1.0},
                             'train.jsonl:3: x[2]: expected a number, found "3"'),
    "null": ({"x": [1.0, None, 3.0, 4.0, 5.0], "label": 1.0}, "train.jsonl:3: x[1]: expected a number, found null"),
    "an empty list": ({"x": [], "label": 1.0}, "train.jsonl:3: x: an empty list"),
    "ragged": ({"x": [[1.0, 2.0], [3.0]], "label": 1.0}, "train.jsonl:3: x[1]: a list of 1 beside lists of 2"),
    "a number among lists": ({"x": [[1.0], 2.0], "label": 1.0},
                             "train.jsonl:3: x[1]: expected a list, as before it, found 2.0"),
    "a text": ({"x": "hello", "label": 1.0},
               "train.jsonl:3: x: expected numbers (0.5, [0.5, 1.5], ...), found 'hello'"),
    "too many targets": ({"x": [1.0] * 5, "label": [1.0, 2.0]},
                         "train.jsonl:3: label: expected 1 target as in the training rows, found 2"),
    "no label": ({"x": [1.0] * 5}, "train.jsonl:3: set data.label: ...; no field 'label'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rows_are_said_in_one_line(case, run, tmp_path):
    row, expected = WRONG[case]
    archive, rows = saved(Regressor(), tmp_path / "m.pt"), regression_rows(12, 10)
    rows[2] = row
    failed = run("finetune", configure(tmp_path / "c.yaml", archive, write(tmp_path / "train.jsonl", rows)), "--run",
                 tmp_path / "run", code=1).stderr
    errors = [line for line in failed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0], failed
    assert not list((tmp_path / "run").glob("adapter*"))


def test_a_model_of_texts_with_names_of_its_own_is_told_apart(run, tmp_path):
    """Rows of ids for a model whose inputs have other names: the message says where to name them."""
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(40, 8), nn.Linear(8, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(self.embed(tokens).mean(1))

    archive = saved(Other(), tmp_path / "m.pt")
    train = write(tmp_path / "train.jsonl", [{"input_ids": [1 + i, 2, 3], "label": i % 2} for i in range(8)])
    config = configure(tmp_path / "c.yaml", archive, train, "classification",
                       "method: lora, rank: 2, targets: all-weights")
    failed = run("finetune", config, "--run", tmp_path / "no", code=1).stderr
    assert ("no field 'tokens', which the model takes as a tensor; fields there: input_ids, label" in failed
            and "model.inputs.input_ids: tokens" in failed)
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert seen["row_tensors"] == ["tokens"] and seen["looked_up"] == "tokens"
    assert "for token ids say model.inputs.input_ids: tokens" in run("inspect", archive).stdout
    run("finetune", config, "--run", tmp_path / "run", "--set", "model.inputs.input_ids=tokens")
    failed = run("finetune", config, "--run", tmp_path / "no2", "--set", "data.task=causal-lm", code=1).stderr
    assert "causal-lm reads tokens alone, but the model also takes tokens" in failed


def test_inspect_says_what_rows_carry(run, tmp_path):
    archive = saved(Mixed(), tmp_path / "m.pt")
    assert "rows carry features and kinds and image and flag as lists of numbers" in run("inspect", archive).stdout


def test_a_model_that_gives_another_number_of_outputs(run, tmp_path):
    archive = saved(Regressor(targets=4), tmp_path / "m.pt")
    train = write(tmp_path / "train.jsonl", regression_rows(12, 11))
    failed = run("finetune", configure(tmp_path / "c.yaml", archive, train), "--run", tmp_path / "run", code=1).stderr
    assert "gives 4 outputs, but the task needs 1; save the model with as many" in failed


def test_an_argument_that_is_no_tensor(run, tmp_path):
    class Scaled(Regressor):
        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.out(torch.tanh(self.first(x))) * factor

    archive = saved(Scaled(), tmp_path / "m.pt")
    train = write(tmp_path / "train.jsonl", regression_rows(12, 12))
    failed = run("finetune", configure(tmp_path / "c.yaml", archive, train), "--run", tmp_path / "run", code=1).stderr
    assert "the model's input 'factor' is a float without a default" in failed


def test_tables_pipes_and_texts_carry_tensors_too(run, tmp_path):
    torch.manual_seed(8)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, age: Tensor, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.first(torch.cat([age.unsqueeze(1), x], 1))))

    archive, rng = saved(Two(), tmp_path / "m.pt"), random.Random(13)
    rows = [{"age": round(rng.uniform(1, 9), 2), "x": numbers(rng, 3), "label": rng.uniform(0, 5)} for _ in range(16)]
    train, table = write(tmp_path / "train.jsonl", rows), tmp_path / "train.csv"
    table.write_text("age,x,label\n" + "".join(f'{row["age"]},"{row["x"]}",{row["label"]}\n' for row in rows))
    for name, file in (("a", train), ("b", table)):
        run("finetune", configure(tmp_path / f"{name}.yaml", archive, file), "--run", tmp_path / name)
    assert torch.equal(logits(run, tmp_path / "a", train), logits(run, tmp_path / "b", table))
    expected = lines(run("predict", tmp_path / "a", "--input", train).stdout)[0]
    piped = run("predict", tmp_path / "a", "-", input=json.dumps(rows[0]) + "\n").stdout
    typed = run("predict", tmp_path / "a", "--text", str(rows[0]["age"]), "--text", str(rows[0]["x"])).stdout
    for text in (piped, typed):
        assert json.loads(text)["prediction"] == pytest.approx(expected["prediction"], abs=1e-6)
    failed = run("predict", tmp_path / "a", "-", input='{"age": 3}\n', code=1).stderr
    assert "standard input:1: no field 'x'" in failed


def test_comparisons_drawn_rows_and_resumed_runs(run, tmp_path):
    torch.manual_seed(9)
    archive, train = saved(Regressor(), tmp_path / "m.pt"), write(tmp_path / "train.jsonl", regression_rows(60, 14))
    (tmp_path / "compare.yaml").write_text(f"""model: {{path: {archive}}}
data: {{task: regression, train: {train}, dev_share: 0.2, test_share: 0.2}}
adapter: {{rank: 2}}
train: {{steps: 4, batch_size: 8}}
compare: {{methods: [{{name: lora, adapter.method: lora}}, {{name: deep, adapter.method: deep-lora}}], lr: [1e-2], seeds: [1, 2]}}
""")  # noqa: E501
    run("compare", tmp_path / "compare.yaml", "--run", tmp_path / "compared")
    assert (tmp_path / "compared" / "report.html").exists()
    # the task is guessed
    run("finetune", "--model", archive, "--train", train, "--run", tmp_path / "run", "--steps", 4)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "regression" and result["rows"]["dev"] == 6
    run("finetune", "--run", tmp_path / "run", "--resume")


def test_a_file_exported_for_other_fields_is_refused(run, tmp_path):
    archive, train = saved(Regressor(), tmp_path / "m.pt"), write(tmp_path / "train.jsonl", regression_rows(12, 15))
    run("finetune", configure(tmp_path / "c.yaml", archive, train), "--run", tmp_path / "run")
    task = json.loads((tmp_path / "run" / "task.json").read_text())
    assert task["state"]["tensors"] == [{"name": "x", "shape": [5], "dtype": "float32",
                                         "least": task["state"]["tensors"][0]["least"],
                                         "most": task["state"]["tensors"][0]["most"]}]
    task["state"]["tensors"][0]["name"] = "z"
    (tmp_path / "run" / "task.json").write_text(json.dumps(task))
    assert "it was trained on rows with z, but the model takes x" in run("predict", tmp_path / "run", "--input", train,
        code=1).stderr
