"""Weights that other operators than linear layers read, and weights that are constants of the code: adapted, trained
and merged. Oracle: the module in PyTorch with W + delta in place of W (torch.func.functional_call), and plain
torch.jit.load of the merged file."""
from __future__ import annotations

import json
import zipfile

import pytest
import torch

import graph_oracle
import weight_models

pytestmark = pytest.mark.filterwarnings("ignore")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES = [(name, how) for name, (_, _, ways) in weight_models.MODELS.items() for how in ways]


def jobs_of(name: str, how: str, folder, targets, methods=("lora", "deep-lora")) -> list[graph_oracle.Job]:
    out = []
    for dtype in DTYPES:
        model = weight_models.make(name, DTYPES[dtype])
        batch = weight_models.batch()
        path = folder / f"{dtype}.pt"
        weight_models.saved_as(model, how, path, tuple(batch.values()))
        out += [graph_oracle.Job(path, model, batch, targets, folder, method) for method in methods]
    return out


def code_of(archive) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist() if "/code/" in name
                and name.endswith(".py")}


@pytest.mark.parametrize("name, how", CASES)
def test_the_adapted_model_is_the_module_with_w_plus_delta(name, how, tmp_path, run):
    jobs = jobs_of(name, how, tmp_path, ["all-weights"])
    sites = graph_oracle.run(jobs, tmp_path)
    expected = {n for n, p in jobs[0].model.named_parameters() if p.dim() >= 2 and n != "out.weight"}
    assert all(set(found) == expected for found in sites)
    seen = {site["path"]: site for site in json.loads(run("inspect", jobs[0].archive, "--json").stdout)["sites"]}
    ops = {seen[path]["op"] for path in expected} - {"embedding"}
    named = {op for part in weight_models.MODELS[name][1] for op in part.split(", ")}
    assert {op for part in ops for op in part.split(", ")} <= named | {"t", "chunk", "unsqueeze", "div", "clamp_min",
        "_convolution", "norm", "linalg_vector_norm", "expand",
                                                                      "expand_as", "linear", "reshape"}, ops
    assert all(seen[path]["kind"] == "weight" for path in expected if seen[path]["op"] not in ("embedding", "linear"))


# Folding a convolution into the next layer makes new weights: what is compared here is what freezing leaves as it was.
FROZEN = [("folded", how) for how in ("script+freeze", "trace+freeze", "closure", "closure+freeze", "script+optimize",
                                      "trace+optimize")] + [
    ("lstm", "script+freeze"), ("gru", "script+freeze"), ("packed", "script+freeze"), ("conv2d", "script+freeze"),
    ("bilinear", "trace+freeze"), ("bag", "script+freeze"),
    ("products", "closure")]


@pytest.mark.parametrize("name, how", FROZEN)
def test_constants_of_the_code_are_weights(name, how, tmp_path):
    jobs = jobs_of(name, how, tmp_path, ["all-weights"])
    for found in graph_oracle.run(jobs, tmp_path):
        assert found and all(path.startswith("CONSTANTS.c") for path in found)
        matrices = sum(p.dim() >= 2 for p in jobs[0].model.parameters()) - 1  # but the head
        assert len(found) >= matrices - (name == "products")  # W * 2 is a constant of its own there
    for job in jobs:
        # PyTorch itself numbers the variables of some code anew when it writes it.
        torch.jit.save(torch.jit.load(str(job.archive)), str(tmp_path / "again.pt"))
        assert code_of(tmp_path / "again.pt") == code_of(job.merged)
        assert not torch.jit.load(str(job.merged)).state_dict()


def test_a_frozen_archive_trains_its_head_and_everything(run, tmp_path):
    model = weight_models.make("folded", torch.float32)
    weight_models.saved_as(model, "script+freeze", tmp_path / "m.pt", tuple(weight_models.batch().values()))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5 + i, 6 + i % 7, 7], "label": i % 2}) + "\n" for i in range(16)))
    for method, changed in (("none", 2), ("lora, rank: 2", 4), ("full", 7)):
        (tmp_path / "c.yaml").write_text(f"""model: {{path: {tmp_path / 'm.pt'}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{method: {method}}}
train: {{steps: 4, batch_size: 8, lr: 0.05}}
""")
        folder = tmp_path / method[:4]
        run("finetune", tmp_path / "c.yaml", "--run", folder)
        run("export", folder, "--to", "torchscript", "--output", folder / "merged.pt")
        live = torch.tensor([json.loads(line)["logits"] for line in run("predict", folder, "--input",
            rows).stdout.splitlines()])
        ids = torch.tensor([json.loads(line)["input_ids"] for line in rows.read_text().splitlines()])
        merged = torch.jit.load(str(folder / "merged.pt"))
        with torch.no_grad():
            torch.testing.assert_close(merged(ids, torch.ones_like(ids)), live, rtol=0, atol=1e-5)
        graphs = [torch.jit.load(str(path)).graph for path in (tmp_path / "m.pt", folder / "merged.pt")]
        before, after = ([node.output().toIValue() for node in graph.findAllNodes("prim::Constant")] for graph
                         in graphs)
        different = [i for i, (a, b) in enumerate(zip(before, after)) if isinstance(a, torch.Tensor)
                     and not torch.equal(a, b)]
        assert len(different) == changed, (method, different)


def test_convolutions_packed_for_onednn_are_refused_by_name(run, tmp_path):
    model = weight_models.make("conv2d", torch.float32)
    weight_models.saved_as(model, "script+optimize", tmp_path / "m.pt", tuple(weight_models.batch().values()))
    if "ConstantMKLDNNTensor" not in str(code_of(tmp_path / "m.pt")):
        pytest.skip("this PyTorch does not pack convolutions")
    said = run("inspect", tmp_path / "m.pt", code=1).stderr
    assert len(said.splitlines()) == 1 and "optimize_for_inference packed its convolutions for oneDNN" in said


@pytest.mark.parametrize("method", ["lora, rank: 2, dropout: 0.2", "dora, rank: 2", "pissa, rank: 2",
                                    "lora-one, rank: 2", "lora-ga, rank: 2", "eva, rank: 2", "polar, rank: 2",
                                    "lora-plus, rank: 2",
                                    "deep-lora, rank: 2, compress: true", "full"])
def test_every_method_trains_recurrent_weights_and_its_merged_file_is_the_live_model(method, run, tmp_path):
    model = weight_models.make("gru", torch.float32)
    weight_models.saved_as(model, "script", tmp_path / "m.pt", tuple(weight_models.batch().values()))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input_ids": [5 + i, 6 + i % 7, 7], "label": i % 2}) + "\n" for i in range(16)))
    targets = "" if method == "full" else ", targets: recurrent"
    (tmp_path / "c.yaml").write_text(f"""model: {{path: {tmp_path / 'm.pt'}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{method: {method}{targets}}}
train: {{steps: 5, batch_size: 8, lr: 0.02}}
""")
    run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    live = torch.tensor([json.loads(line)["logits"] for line in run("predict", tmp_path / "run", "--input",
        rows).stdout.splitlines()])
    ids = torch.tensor([json.loads(line)["input_ids"] for line in rows.read_text().splitlines()])
    before, after = torch.jit.load(str(tmp_path / "m.pt")), torch.jit.load(str(tmp_path / "merged.pt"))
    with torch.no_grad():
        torch.testing.assert_close(after(ids, torch.ones_like(ids)), live, rtol=0, atol=2e-5)
    moved = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    assert {name for name in before.state_dict() if name.startswith("rnn.weight")} <= moved
    if method != "full":
        assert moved == {name for name in before.state_dict() if name.startswith("rnn.weight")} | {"out.weight",
            "out.bias"}
        failed = run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "peft", code=1).stderr
        assert "rnn.weight_ih_l0" in failed and not (tmp_path / "peft").exists()
