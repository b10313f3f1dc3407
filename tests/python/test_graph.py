"""model.backend=graph: adapters in any TorchScript model. Oracles: torch.jit.load of the merged file, and the native
backend."""
from __future__ import annotations

import json
import random
import zipfile

import pytest
import torch
from torch import nn

from graph_models import WORDS, LoopedTransformer, Recurrent, TorchEncoder

METHODS = {"lora": "method: lora, rank: 2, targets: [all-linear, 're:.*(word_embeddings|embed)']",
           "deep-lora": "method: deep-lora, rank: 3, depth: 3, targets: attention-mlp"}


@pytest.fixture(scope="session")
def id_rows(tmp_path_factory):
    """Rows of input_ids [3..9 tokens] whose label is whether more of them are even than odd; equal_* have 6 tokens
    each."""
    folder = tmp_path_factory.mktemp("ids")
    out = {}
    for name, count, seed, lengths in (("train", 48, 1, (3, 9)), ("test", 24, 2, (3, 9)),
                                       ("equal_train", 48, 3, (6, 6)), ("equal_test", 24, 4, (6, 6))):
        rng = random.Random(seed)
        rows = [[rng.randrange(5, WORDS) for _ in range(rng.randint(*lengths))] for _ in range(count)]
        out[name] = folder / f"{name}.jsonl"
        out[name].write_text("".join(json.dumps({"input_ids": ids,
                                                 "label": int(sum(i % 2 for i in ids) * 2 > len(ids))}) + "\n" for ids
                                     in rows))
    return out


def configuration(path, archive, train, adapter, backend="graph", more="", training="", head="{dropout: 0.0}"):
    path.write_text(f"""model: {{path: {archive}, backend: {backend}{more}}}
data: {{task: classification, train: {train}, dev: {train}, max_length: 24}}
adapter: {{{adapter}}}
head: {head}
train: {{steps: 8, batch_size: 8, lr: 0.01, eval_every: 8, log_every: 1, seed: 5{training}}}
""")
    return path


def losses(run_folder):
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def batch_of(path, names, pad=0):
    rows = [json.loads(line)["input_ids"] for line in path.read_text().splitlines()]
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, :len(row)], mask[i, :len(row)] = torch.tensor(row), 1
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: values[name] for name in names}


def train_merge_and_compare(run, tmp_path, archive, train, test, adapter, **options):
    """Trains, merges, and returns the loss curve; live predictions must be those of the merged file in plain
    PyTorch."""
    run_folder, merged = tmp_path / "run", tmp_path / "merged.pt"
    run("finetune", configuration(tmp_path / "config.yaml", archive, train, adapter, **options), "--run", run_folder)
    live = [json.loads(line)["logits"] for line in run("predict", run_folder, "--input", test).stdout.splitlines()]
    run("export", run_folder, "--to", "torchscript", "--output", merged)
    module = torch.jit.load(str(merged))
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    extra = {"config.json": ""}
    torch.jit.load(str(archive), _extra_files=extra)
    pad = json.loads(extra["config.json"] or "{}").get("pad_token_id") or 0
    with torch.no_grad():
        logits = module(**batch_of(test, names, pad))
    expected = torch.tensor(live)
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4 * max(1.0, expected.abs().max().item()))
    before, after = torch.jit.load(str(archive)).state_dict(), {k.removeprefix("base."): v for k,
                                                                v in module.state_dict().items()}
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    assert changed, "merging changed no weight"
    return losses(run_folder)


# Every family's mathematics is in test_graph_oracle.py: here it is the program's way from rows to a merged file.
@pytest.mark.parametrize("family, method", [("bert", "deep-lora"), ("albert", "lora"), ("deberta-v2", "lora")])
def test_encoder_families_train_and_merge(family, method, run, id_rows, tiny_archive, tmp_path):
    curve = train_merge_and_compare(run, tmp_path, tiny_archive(family, "encoder"), id_rows["train"], id_rows["test"],
                                    METHODS[method])
    assert len(curve) == 8 and all(loss == loss for loss in curve)


@pytest.mark.parametrize("family", ["distilbert", "electra"])
def test_archives_with_a_head_train_it_under_its_own_name(family, run, id_rows, tiny_archive, tmp_path):
    train_merge_and_compare(run, tmp_path, tiny_archive(family, "classifier", 2), id_rows["train"], id_rows["test"],
                            METHODS["lora"])
    from safetensors import safe_open

    with safe_open(tmp_path / "run" / "adapter.safetensors", "pt") as file:
        heads = [name for name in file.keys() if name.startswith("base/")]
    assert any("classifier" in name for name in heads), heads


@pytest.mark.parametrize("adapter", [*METHODS.values(), "method: full",
                                     "method: deep-lora, rank: 3, compress: true, targets: query-value"])
@pytest.mark.parametrize("task", ["encoder", "classifier"])
def test_native_and_graph_backend_give_the_same_losses(task, adapter, run, id_rows, tiny_archive, tmp_path):
    archive = tiny_archive("bert", task, 2 if task == "classifier" else None)
    curves = []
    for backend in ("native", "graph"):
        path = configuration(tmp_path / f"{backend}.yaml", archive, id_rows["train"], adapter, backend,
                             ", dropout: 0.0")
        run("finetune", path, "--run", tmp_path / backend)
        curves.append(losses(tmp_path / backend))
    assert len(curves[0]) == 8 and len(set(curves[0])) > 1
    # float32: the native family packs tokens, so sums have another order
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_dropout_of_the_archive_is_on_in_training_and_follows_the_option(run, id_rows, tiny_archive, tmp_path):
    curves = {}
    for name, more in (("archive", ""), ("none", ", dropout: 0.0"), ("half", ", dropout: 0.5")):
        path = configuration(tmp_path / f"{name}.yaml", tiny_archive("bert", "encoder"), id_rows["train"],
                             METHODS["lora"], more=more)
        run("finetune", path, "--run", tmp_path / name)
        curves[name] = losses(tmp_path / name)
    assert curves["archive"][0] != curves["none"][0] != curves["half"][0] != curves["archive"][0]


def saved(module, path):
    torch.jit.save(module, str(path))
    return path


def ids_and_mask():
    ids = torch.randint(5, WORDS, (2, 7), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


@pytest.mark.parametrize("method", METHODS)
def test_scripted_model_with_loop_and_branch(method, run, id_rows, tmp_path):
    torch.manual_seed(0)
    archive = saved(torch.jit.script(LoopedTransformer().eval()), tmp_path / "loop.pt")
    seen = json.loads(run("inspect", archive, "--json").stdout)
    assert (seen["family"], seen["backend"]) == ("graph", "graph")
    assert {site["path"]: site["uses"] for site in seen["sites"]}["layers.0.q_proj.weight"] == 1
    assert seen["targets"]["query-value"] == [f"layers.{i}.{n}_proj.weight" for i in range(2) for n in "qv"]
    curve = train_merge_and_compare(run, tmp_path, archive, id_rows["train"], id_rows["test"], METHODS[method],
                                    backend="auto")
    assert len(curve) == 8


def test_traced_torch_transformer_encoder(run, id_rows, tmp_path):
    torch.manual_seed(0)
    model = TorchEncoder().eval()
    archive = saved(torch.jit.trace(model, ids_and_mask(), check_trace=False), tmp_path / "encoder.pt")
    sites = {site["path"]: site for site in json.loads(run("inspect", archive, "--json").stdout)["sites"]}
    assert sites["encoder.layers.0.linear1.weight"]["role"] == "mlp_in"
    # 7 is the traced length, where the scaling of torch.nn.MultiheadAttention is baked in
    train_merge_and_compare(run, tmp_path, archive, id_rows["train"], id_rows["test"],
                            "method: lora, rank: 3, targets: '*linear*'", backend="auto")


def test_an_lstm_is_adapted_and_refuses_padding(run, id_rows, tmp_path):
    torch.manual_seed(0)
    archive = saved(torch.jit.script(Recurrent().eval()), tmp_path / "lstm.pt")
    seen = json.loads(run("inspect", archive, "--json").stdout)
    sites = {site["path"]: site for site in seen["sites"]}
    assert set(sites) == {"embed.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0",
                          "classifier.weight"} and not seen["not_adaptable"]
    assert all((site["op"], site["kind"], site["role"]) == ("lstm", "weight", "recurrent") for path,
               site in sites.items() if path.startswith("lstm"))
    adapter = "method: lora, rank: 3, targets: all-weights"
    train_merge_and_compare(run, tmp_path, archive, id_rows["equal_train"], id_rows["equal_test"], adapter,
                            backend="auto")
    failed = run("finetune", configuration(tmp_path / "padded.yaml", archive, id_rows["train"], adapter), "--run",
                 tmp_path / "no", code=1)
    assert "takes no attention_mask" in failed.stderr


def test_gpt2_sites_are_out_times_in_and_its_tied_table_is_one_site(run, tiny_archive):
    seen = json.loads(run("inspect", tiny_archive("gpt2"), "--json").stdout)
    sites = {site["path"]: site for site in seen["sites"]}
    assert sites["model.transformer.h.0.attn.c_attn.weight"] == {
        "path": "model.transformer.h.0.attn.c_attn.weight", "op": "addmm", "kind": "linear", "shape": [96, 32],
        "role": "query_key_value", "uses": 1,
        "rows": {"query": 32, "key": 32, "value": 32}}
    assert seen["targets"]["query-value"] == [f"model.transformer.h.{i}.attn.c_attn.{part}.weight" for i in range(2)
                                              for part in ("query", "value")]
    assert sites["model.transformer.wte.weight"]["uses"] == 2
    assert "model.lm_head.weight" not in sites


def test_peft_folder_of_a_graph_run_loads_on_the_hugging_face_model(run, id_rows, tiny_archive, tiny_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    archive = tiny_archive("electra", "classifier", 2)
    run("finetune", configuration(tmp_path / "c.yaml", archive, id_rows["train"],
                                  "method: lora, rank: 3, targets: all-linear"), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "peft")
    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder("electra"), num_labels=2)
    model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    live = [json.loads(line)["logits"] for line in run("predict", tmp_path / "run", "--input",
                                                       id_rows["test"]).stdout.splitlines()]
    with torch.no_grad():
        logits = model(**batch_of(id_rows["test"], ["input_ids", "attention_mask"], base.config.pad_token_id)).logits
    torch.testing.assert_close(logits, torch.tensor(live), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["gpt-neox", "bart", "shared-blocks"])
def test_language_models_train_and_merge(model, program, tmp_path):
    """Decoder inputs, logits of every token, nested outputs under other input names; the merged file's loss is
    PyTorch's own."""
    import graph_models
    import graph_table

    cells = [cell.strip() for cell in graph_table.row_of(program, model, tmp_path).strip("|").split("|")]
    # models of transformers as exported programs too
    files = cells[-3:-1] if model in graph_models.MODELS else cells[-3:]
    assert all(float(cell) < 1e-5 for cell in files), cells


@pytest.mark.parametrize("model, part", [("gpt2", "c_attn"), ("gpt-neox", "query_key_value")])
def test_peft_folder_of_some_rows_of_a_fused_weight_loads_on_the_hugging_face_model(model, part, run, tiny_archive,
        tiny_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rows, rng = tmp_path / "rows.jsonl", random.Random(4)
    ids = [[rng.randrange(5, 50) for _ in range(7)] for _ in range(12)]
    rows.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in ids))
    (tmp_path / "c.yaml").write_text(f"""model: {{path: {tiny_archive(model)}, backend: graph}}
data: {{task: causal-lm, train: {rows}, dev: {rows}, pack: false}}
adapter: {{method: deep-lora, rank: 3, targets: query-value}}
train: {{steps: 8, batch_size: 6, lr: 0.05}}
""")
    run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "peft")
    live = json.loads(run("evaluate", tmp_path / "run", "--data", rows, "--json").stdout)["loss"]
    base = AutoModelForCausalLM.from_pretrained(tiny_folder(model))
    tokens = torch.tensor(ids)
    with torch.no_grad():
        plain = base(tokens, labels=tokens).loss.item()
        adapted = PeftModel.from_pretrained(base, tmp_path / "peft").eval()(tokens, labels=tokens).loss.item()
    assert adapted == pytest.approx(live, rel=1e-4) and abs(adapted - plain) > 1e-2 * plain
    from safetensors.torch import load_file

    factors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert len(factors) == 4 and all(f".{part}.lora_" in name for name in factors)
    b = next(value for name, value in factors.items() if "lora_B" in name)
    keys = b.chunk(3, 0)[1] if model == "gpt2" else b.unflatten(0, (4, 3, -1))[:, 1]
    assert b.shape == (96, 6) and keys.abs().max() == 0


def code_of(archive) -> dict[str, bytes]:
    """Code files of a TorchScript zip, without the folder that is named after the file (and without the lines' origins,
    .debug_pkl)."""
    with zipfile.ZipFile(archive) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist() if "/code/" in name
                and name.endswith(".py")}


@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_merged_export_keeps_the_code_byte_by_byte(kind, run, id_rows, tiny_archive, tmp_path):
    torch.manual_seed(0)
    archive = tiny_archive("bert", "classifier",
                           2) if kind == "traced" else saved(torch.jit.script(LoopedTransformer().eval()),
                                                             tmp_path / "loop.pt")
    run("finetune", configuration(tmp_path / "c.yaml", archive, id_rows["train"], METHODS["lora"]), "--run",
        tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    base, merged = code_of(archive), code_of(tmp_path / "merged.pt")
    assert base and merged == base


def test_auto_says_why_it_leaves_the_native_family(run, id_rows, tiny_archive, tmp_path):
    files = {"config.json": ""}
    module = torch.jit.load(str(tiny_archive("bert", "encoder")), _extra_files=files)
    settings = json.loads(files["config.json"]) | {"num_attention_heads": 2}  # the traced code has 4
    torch.jit.save(module, str(tmp_path / "model.pt"), _extra_files={"config.json": json.dumps(settings)})
    path = configuration(tmp_path / "config.yaml", tmp_path / "model.pt", id_rows["train"], METHODS["lora"],
                         backend="auto")
    said = run("finetune", path, "--run", tmp_path / "run").stderr
    assert "backend graph: " in said and "does not compute what the archive computes" in said and "(graph, " in said
