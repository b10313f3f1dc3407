"""What a comparison of two outputs does not show: where native families drop, which positions ids have, which rows of a
table learn, and models with few positions or few words. Oracles: transformers in training mode, the archive by its own
graph, PEFT."""
from __future__ import annotations

import json
import random

import pytest
import torch

import export_torchscript

SIZES = dict(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
             max_position_embeddings=40, pad_token_id=0,
             initializer_range=0.3)
DISTIL = dict(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40, pad_token_id=0,
              initializer_range=0.3)
GPT2 = dict(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=40, initializer_range=0.3, bos_token_id=1,
            eos_token_id=1)
T5 = dict(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1,
          decoder_start_token_id=0,
          relative_attention_num_buckets=8, relative_attention_max_distance=16)
# name -> (class, task, configuration)
MODELS = {
    "bert": ("BertForSequenceClassification", "classifier", dict(SIZES, num_labels=2)),
    "roberta": ("RobertaForSequenceClassification", "classifier", dict(SIZES, num_labels=2, pad_token_id=1,
        max_position_embeddings=42, type_vocab_size=1)),
    "distilbert": ("DistilBertForSequenceClassification", "classifier", dict(DISTIL, num_labels=2)),
    "gpt2": ("GPT2LMHeadModel", "causal-lm", GPT2),
    "llama": ("LlamaForCausalLM", "causal-lm", dict(SIZES, bos_token_id=1, eos_token_id=2, num_key_value_heads=2)),
    "t5": ("T5ForConditionalGeneration", "seq2seq", T5),
}


def make(folder, name, silent=(), **changes):
    """A folder of transformers, its archive and the model; modules whose names end in one of `silent` give zeros."""
    import transformers

    class_name, task, arguments = MODELS[name]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(3)
    model = model_class(model_class.config_class(**{**arguments, **changes}))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 1:  # zero biases would hide a mistake
                value.add_(0.3 * torch.randn(value.shape))
            if key.rpartition(".")[0].endswith(tuple(silent)) and silent:
                value.zero_()
    model.save_pretrained(folder / name)
    export_torchscript.export(str(folder / name), str(folder / f"{name}.pt"), task, 2 if task == "classifier" else None)
    return folder / f"{name}.pt", model


def rows_file(path, name, texts):
    """Rows for the model's task: labels of classes, of every token behind the first, or the text itself as a target."""
    lines = []
    for ids in texts:
        row = {"input_ids": ids}
        if name == "t5":
            row["labels"] = [*ids[:5], 1]
        elif name in ("gpt2", "llama"):
            row["labels"] = [-100, *ids[1:]]
        else:
            row["label"] = sum(ids) % 2
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    return path


def train(run, folder, archive, rows, adapter, settings, backend="native", task="classification", model="", head=""):
    folder.mkdir(parents=True, exist_ok=True)
    more = ", pack: false" if task == "causal-lm" else ""
    (folder / "c.yaml").write_text(f"""model: {{path: {archive}, backend: {backend}{model}}}
data: {{task: {task}, train: {rows}, dev: {rows}{more}}}
adapter: {{{adapter}}}
head: {{{head}}}
train: {{log_every: 1, schedule: constant, {settings}}}
""")
    run("finetune", folder / "c.yaml", "--run", folder / "run", timeout=600)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


TASKS = {"gpt2": "causal-lm", "llama": "causal-lm", "t5": "seq2seq"}
# All kinds of dropout that a configuration names: each one alone, then all of them.
DROPOUTS = {
    "bert": ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"],
    "roberta": ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"],
    "distilbert": ["dropout", "attention_dropout", "seq_classif_dropout"],
    "gpt2": ["embd_pdrop", "resid_pdrop", "attn_pdrop"],
    "llama": ["attention_dropout"],
    "t5": ["dropout_rate"],
}
DRAWS = 600


def losses_of_transformers(model, name, texts):
    """DRAWS losses of one batch in training mode, as one forward of that many batches: masks are drawn row by row."""
    ids = torch.tensor(texts)
    labels = {"t5": torch.tensor([[*text[:5], 1] for text in texts]), "gpt2": ids, "llama": ids}.get(
        name, torch.tensor([sum(text) % 2 for text in texts]))

    def losses(times):
        read, of = ids.repeat(times, 1), labels.repeat(times, *[1] * (labels.dim() - 1))
        out = model(input_ids=read, attention_mask=torch.ones_like(read), labels=of)
        logits, of = (out.logits[:, :-1], of[:, 1:]) if TASKS.get(name) == "causal-lm" else (out.logits, of)
        each = torch.nn.functional.cross_entropy(logits.flatten(0, -2), of.flatten(), reduction="none")
        return each.view(times, -1).mean(1), out.loss

    torch.manual_seed(11)
    with torch.no_grad():
        model.eval()
        alone, theirs = losses(1)
        torch.testing.assert_close(alone[0], theirs)  # the mean over a batch is what transformers takes
        model.train()
        return [loss for _ in range(DRAWS // 100) for loss in losses(100)[0].tolist()]


@pytest.mark.parametrize("name, kind", [(name, kind) for name, kinds in DROPOUTS.items() for kind
                                        in [*kinds, "all"][:len(kinds) + (len(kinds) > 1)]])
def test_losses_in_training_mode_are_distributed_as_those_of_transformers(name, kind, run, tmp_path):
    """A dropout too many or too few, or at another place, is another distribution: two samples of one differ by more
    than 0.11 once in 1000 times."""
    from scipy.stats import ks_2samp

    chosen = {key: 0.3 if kind in (key, "all") else 0.0 for key in DROPOUTS[name]}
    archive, model = make(tmp_path, name, **chosen)
    rng = random.Random(5)
    texts = [[rng.randrange(5, 60) for _ in range(9)] for _ in range(2)]
    rows = rows_file(tmp_path / "rows.jsonl", name, texts)
    ours = train(run, tmp_path / "native", archive, rows, "method: lora, rank: 2, targets: all-linear",
                 f"steps: {DRAWS}, batch_size: 2, lr: 1.0e-30, eval_every: {DRAWS}",
                 task=TASKS.get(name, "classification"), head="train: false")
    theirs = losses_of_transformers(model, name, texts)
    assert len(ours) == DRAWS and max(theirs) - min(theirs) > 1e-3
    assert ks_2samp(ours, theirs).statistic < 0.11, (sum(ours) / DRAWS, sum(theirs) / DRAWS)


# Places where a family drops, or could drop, with its main probability, by the modules whose zeros leave nothing to
# drop there.
PLACES = {
    "bert": ("hidden_dropout_prob", ["embeddings.LayerNorm", "attention.output.dense", "0.output.dense",
                                     "1.output.dense"]),
    "roberta": ("hidden_dropout_prob", ["embeddings.LayerNorm", "attention.output.dense", "0.output.dense",
                                        "1.output.dense"]),
    "distilbert": ("dropout", ["embeddings.LayerNorm", "attention.out_lin", "ffn.lin2"]),
    "gpt2": ("resid_pdrop", ["attn.c_proj", "mlp.c_proj"]),
}


@pytest.mark.parametrize("name, left", [(name, left) for name, (_, places) in PLACES.items() for left
                                        in [*places, "none"]])
def test_native_families_drop_where_transformers_does_and_nowhere_else(name, left, run, tmp_path):
    """One place is left with something to drop: losses vary, and alike, where transformers drops there, and not at all
    where it does not."""
    from scipy.stats import ks_2samp

    chosen, places = PLACES[name]
    changes = {key: 0.3 if key == chosen else 0.0 for key in DROPOUTS[name]}
    archive, model = make(tmp_path, name, [place for place in places if place != left], **changes)
    texts = [[7, 12, 40, 9, 33], [21, 8, 50, 30, 11]]
    rows = rows_file(tmp_path / "rows.jsonl", name, texts)
    ours = train(run, tmp_path / "native", archive, rows, "method: lora, rank: 2, targets: all-linear",
                 f"steps: {DRAWS}, batch_size: 2, lr: 1.0e-30, eval_every: {DRAWS}",
                 task=TASKS.get(name, "classification"), head="train: false")
    theirs = losses_of_transformers(model, name, texts)
    spread = [max(losses) - min(losses) for losses in (ours, theirs)]
    if left == "none" or (name, left) == ("distilbert", "attention.out_lin"):
        assert max(spread) < 1e-5, spread
    else:
        assert min(spread) > 1e-2 and ks_2samp(ours, theirs).statistic < 0.11, spread


def ids_with_padding_inside(pad, rng):
    """Texts that hold the padding token itself, at the front, in the middle and at the end."""
    texts = [[rng.randrange(5, 60) for _ in range(rng.randint(5, 9))] for _ in range(8)]
    for i, text in enumerate(texts):
        text[(0, 2, len(text) - 1, 3)[i % 4]] = pad
    return texts


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_texts_with_the_padding_token_inside_are_read_as_transformers_does(name, run, tmp_path):
    archive, model = make(tmp_path, name)
    pad = model.config.pad_token_id
    texts = ids_with_padding_inside(pad, random.Random(2))
    rows = rows_file(tmp_path / "rows.jsonl", name, texts)
    train(run, tmp_path / "native", archive, rows, "method: none", "steps: 0, batch_size: 4, lr: 0.1")
    ours = [json.loads(line)["logits"] for line in run("predict", tmp_path / "native" / "run", "--input",
                                                       rows).stdout.splitlines()]
    model.eval()
    with torch.no_grad():
        for text, logits in zip(texts, ours):
            expected = model(input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text),
                dtype=torch.long)).logits[0]
            torch.testing.assert_close(torch.tensor(logits), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("adapter", ["method: full", "method: lora, rank: 3, alpha: 6, targets: embedding",
                                     "method: dora, rank: 3, alpha: 6, targets: embedding",
                                     "method: lora-one, rank: 3, targets: '*word_embeddings'"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_the_row_of_the_padding_token_learns_where_the_archive_lets_it(name, adapter, run, tmp_path):
    """On both backends the same, and not at all: transformers makes these tables with padding_idx."""
    from safetensors.torch import load_file

    archive, model = make(tmp_path, name)
    pad = model.config.pad_token_id
    rows = rows_file(tmp_path / "rows.jsonl", name, ids_with_padding_inside(pad, random.Random(2)))
    curves, states = [], []
    for backend in ("native", "graph"):
        curves.append(train(run, tmp_path / backend, archive, rows, adapter,
                            "steps: 8, batch_size: 4, lr: 0.01, eval_every: 8", backend, model=", dropout: 0.0"))
        states.append(load_file(tmp_path / backend / "run" / "last.safetensors"))
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    words = "word_embeddings.weight"
    for state in states:
        if "full" in adapter:
            table = next(value for key, value in state.items() if key.endswith(words))
            before = next(value for key, value in model.state_dict().items() if key.endswith(words))
            assert torch.equal(table[pad], before[pad]) and not torch.equal(table, before)
        elif "lora-one" not in adapter:
            b = next(value for key, value in state.items() if key.endswith(f"{words}/B"))  # [V, r], zero at the start
            assert b[pad].abs().max() == 0 and b.abs().max() > 0


def test_the_padding_row_learns_as_under_peft(run, tmp_path):
    """AdamW on every embedding's adapter, PEFT's factors at the start: the same losses, step by step."""
    from peft import LoraConfig, get_peft_model

    archive, model = make(tmp_path, "bert")
    texts = ids_with_padding_inside(0, random.Random(2))
    rows = rows_file(tmp_path / "rows.jsonl", "bert", texts)
    torch.manual_seed(4)
    peft = get_peft_model(model.eval(), LoraConfig(r=3, lora_alpha=6, target_modules=["word_embeddings", "query"]))
    with torch.no_grad():
        for key, value in peft.named_parameters():
            if "lora_embedding_A" in key or "lora_B" in key:
                value.normal_(std=0.1)
    peft.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    ours = {}
    for backend in ("native", "graph"):
        ours[backend] = train(run, tmp_path / backend, archive, rows, f"path: {tmp_path / 'peft'}",
                              "steps: 12, batch_size: 8, lr: 0.01, clip: 0, eval_every: 12",
                              backend, model=", dropout: 0.0", head="train: false")
    width = max(map(len, texts))
    ids, mask = torch.zeros(8, width, dtype=torch.long), torch.zeros(8, width, dtype=torch.long)
    for i, text in enumerate(texts):
        ids[i, :len(text)], mask[i, :len(text)] = torch.tensor(text), 1
    labels = torch.tensor([sum(text) % 2 for text in texts])
    trained = [value for key, value in peft.named_parameters() if "lora_" in key]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)
    expected = []
    for _ in range(12):
        loss = peft(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    for backend, found in ours.items():
        assert found == pytest.approx(expected, abs=2e-4), backend


@pytest.mark.parametrize("backend", ["native", "graph"])
@pytest.mark.parametrize("name, key, positions", [("bert", "max_position_embeddings", 8),
                                                  ("roberta", "max_position_embeddings", 11),
                                                  ("distilbert", "max_position_embeddings", 8),
                                                  ("gpt2", "n_positions", 8)])
def test_models_with_few_positions_train_and_merge(name, key, positions, backend, run, tmp_path):
    archive, _ = make(tmp_path, name, **{key: positions})
    rows = rows_file(tmp_path / "rows.jsonl", name, [[7, 8], [9, 11], [12, 7], [8, 10]])
    train(run, tmp_path / "x", archive, rows, "method: lora, rank: 2, targets: all-linear",
          "steps: 3, batch_size: 2, lr: 0.01, eval_every: 3", backend,
          TASKS.get(name, "classification"))
    run("export", tmp_path / "x" / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    assert (tmp_path / "merged.pt").exists()


@pytest.mark.parametrize("name, changes", [("bert", dict(vocab_size=14, max_position_embeddings=60)),
                                           ("gpt2", dict(vocab_size=14)),
                                           ("roberta", dict(vocab_size=14)), ("distilbert", dict(vocab_size=14)),
                                           ("llama", dict(vocab_size=14)),
                                           ("t5", dict(vocab_size=6))])
def test_native_families_take_models_with_fewer_words_than_positions(name, changes, run, tmp_path):
    archive, _ = make(tmp_path, name, **changes)
    low = changes["vocab_size"] - 4
    rows = rows_file(tmp_path / "rows.jsonl", name, [[low, low + 1, low + 3], [low + 2, low + 1], [low + 3, low, low]])
    train(run, tmp_path / "x", archive, rows, "method: lora, rank: 2, targets: all-linear",
          "steps: 2, batch_size: 2, lr: 0.01, eval_every: 2",
          task=TASKS.get(name, "classification"))


def test_what_inspect_lists_is_what_finetune_adapts(run, tmp_path):
    """An exported encoder with a new head holds a native family's weights, and its head's: both see the whole."""
    import transformers

    torch.manual_seed(3)
    transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False).save_pretrained(
        tmp_path / "encoder")
    export_torchscript.export(str(tmp_path / "encoder"), str(tmp_path / "encoder.pt"), "encoder")
    rows = rows_file(tmp_path / "rows.jsonl", "bert", [[7, 8, 9], [9, 10], [12, 7, 5], [8, 9]])
    adapter, settings = "method: lora, rank: 2, targets: all-linear", "steps: 2, batch_size: 2, lr: 0.01, eval_every: 2"
    train(run, tmp_path / "first", tmp_path / "encoder.pt", rows, adapter, settings)
    run("export", tmp_path / "first" / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    seen = json.loads(run("inspect", tmp_path / "merged.pt", "--json").stdout)
    train(run, tmp_path / "second", tmp_path / "merged.pt", rows, adapter, settings, "auto")
    from safetensors.torch import load_file

    adapted = {key.split("/")[1] for key in load_file(tmp_path / "second" / "run" / "adapter.safetensors")
               if key.startswith("adapter/")}
    assert seen["backend"] == "native" and any(site["role"] == "head" for site in seen["sites"])
    assert set(seen["targets"]["all-linear"]) == adapted


def test_a_classifier_with_fewer_outputs_than_the_rank_is_adapted_with_what_it_has_room_for(run, tmp_path):
    from safetensors.torch import load_file

    archive, _ = make(tmp_path, "bert")
    rows = rows_file(tmp_path / "rows.jsonl", "bert", [[7, 8, 9], [9, 10], [12, 7, 5], [8, 9]])
    (tmp_path / "c.yaml").write_text(f"""model: {{path: {archive}}}
data: {{task: classification, train: {rows}, dev: {rows}}}
adapter: {{method: lora, rank: 8, targets: [all-linear, head]}}
head: {{train: false}}
train: {{steps: 3, batch_size: 2, lr: 0.01}}
""")
    said = run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "run").stderr
    assert said.count("rank 8 is more than the smaller side of") == 1 and "[2, 32]: its adapter has rank 2" in said
    factors = load_file(tmp_path / "run" / "adapter.safetensors")
    ranks = {key.split("/")[1]: value.shape[0] for key, value in factors.items() if key.endswith("/A")}
    assert {path for path, rank in ranks.items() if rank == 2} == {"model.classifier.weight"} and set(
        ranks.values()) == {2, 8}
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    failed = run("finetune", tmp_path / "c.yaml", "--set", "adapter.rank=33", "--run", tmp_path / "no", code=1).stderr
    assert "rank 33 is more than the smaller side of model.bert.encoder.layer.0" in failed and "[32, 32]" in failed
