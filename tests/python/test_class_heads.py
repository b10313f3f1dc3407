"""Families' own heads for classifying texts (head.type: huggingface), the order of classes, and such runs in the forms
that others read. Oracles: transformers' ...ForSequenceClassification and PEFT, on tiny random models."""
from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score

PAD, END, WORDS = 1, 2, 90
SIZES = dict(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
             max_position_embeddings=40, pad_token_id=PAD,
             bos_token_id=0, eos_token_id=END, initializer_range=0.2)
DECODER = dict(SIZES, num_key_value_heads=2)
BART = dict(vocab_size=WORDS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48,
            decoder_ffn_dim=48, max_position_embeddings=40, pad_token_id=PAD, bos_token_id=0, eos_token_id=END,
            decoder_start_token_id=END, init_std=0.2)
T5 = dict(vocab_size=WORDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=PAD, eos_token_id=END,
          decoder_start_token_id=PAD)
# family -> (name in class names, configuration, suffix of the class it was pre-trained as)
HEADS = {
    "bert": ("Bert", SIZES, "ForMaskedLM"),
    "roberta": ("Roberta", SIZES, "ForMaskedLM"),
    "xlm-roberta": ("XLMRoberta", SIZES, "ForMaskedLM"),
    "camembert": ("Camembert", SIZES, "ForMaskedLM"),
    "distilbert": ("DistilBert", dict(vocab_size=WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
                                      max_position_embeddings=40, pad_token_id=PAD,
                                      initializer_range=0.2), "ForMaskedLM"),
    "electra": ("Electra", dict(SIZES, embedding_size=16), "ForPreTraining"),
    "albert": ("Albert", dict(SIZES, embedding_size=16), "ForMaskedLM"),
    "mpnet": ("MPNet", SIZES, "ForMaskedLM"),
    "deberta-v2": ("DebertaV2", dict(SIZES, type_vocab_size=0, relative_attention=True, pos_att_type=["c2p", "p2c"],
                                     position_buckets=8, share_att_key=True,
                                     norm_rel_ebd="layer_norm", pooler_hidden_act="tanh"), "ForMaskedLM"),
    "deberta-v3": ("DebertaV2", dict(SIZES, type_vocab_size=2, relative_attention=True, pos_att_type="p2c|c2p"),
                   "ForMaskedLM"),
    "modernbert": ("ModernBert", dict(SIZES, local_attention=4, global_attn_every_n_layers=2, cls_token_id=0,
                                      sep_token_id=END), "ForMaskedLM"),
    "modernbert-mean": ("ModernBert", dict(SIZES, local_attention=4, classifier_pooling="mean", classifier_bias=True,
                                           norm_bias=True, norm_eps=1e-2,
                                           classifier_activation="relu", cls_token_id=0, sep_token_id=END),
                        "ForMaskedLM"),
    "gpt2": ("GPT2", dict(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=40, pad_token_id=PAD,
                          bos_token_id=0, eos_token_id=END,
                          initializer_range=0.2), "LMHeadModel"),
    "llama": ("Llama", DECODER, "ForCausalLM"),
    "mistral": ("Mistral", dict(DECODER, sliding_window=None), "ForCausalLM"),
    "qwen2": ("Qwen2", DECODER, "ForCausalLM"),
    "qwen3": ("Qwen3", dict(DECODER, head_dim=8), "ForCausalLM"),
    "phi3": ("Phi3", dict(DECODER, sliding_window=None), "ForCausalLM"),
    "gemma": ("Gemma", dict(DECODER, head_dim=8), "ForCausalLM"),
    "gemma2": ("Gemma2", dict(DECODER, head_dim=8), "ForCausalLM"),
    "gemma3_text": ("Gemma3Text", dict(DECODER, head_dim=8), None),
    "bart": ("Bart", BART, "ForConditionalGeneration"),
    "mbart": ("MBart", BART, "ForConditionalGeneration"),
    "t5": ("T5", T5, "ForConditionalGeneration"),
    "mt5": ("MT5", T5, "ForConditionalGeneration"),
}
CLASSES = ["neutral", "Entailment", "contradiction"]  # not in the order of the alphabet


def model_of(name, suffix, seed=1, **changes):
    model_class = getattr(transformers, HEADS[name][0] + suffix)
    config_class = model_class.config_class
    torch.manual_seed(seed)
    model = model_class(config_class(**{**HEADS[name][1], **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # zeros and ones would hide a mistake
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def classifier(name, folder, seed=1, labels=CLASSES):
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    model = model_of(name, "ForSequenceClassification", seed, **names)
    model.save_pretrained(folder)
    return model


def texts(count=12, seed=3):
    """Ids of several lengths, each text with its end token."""
    draw = torch.Generator().manual_seed(seed)
    return [[*torch.randint(5, WORDS, (1 + i * 5 % 13,), generator=draw).tolist(), END] for i in range(count)]


def logits_of(model, rows):
    """Text by text, so that no padding can play a part."""
    out = []
    with torch.no_grad():
        for ids in rows:
            ids = torch.tensor([ids])
            out.append(model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double())
    return torch.stack(out)


def write(path, rows, labels):
    path.write_text("".join(json.dumps({"input_ids": ids, "label": label}) + "\n" for ids, label in zip(rows, labels)))
    return path


def finetune(run, tmp_path, model, data, out, adapter="method: none", head="", steps=0, task="classification", more="",
             code=0, **options):
    path = tmp_path / f"{out}.yaml"
    path.write_text(f"""model: {{path: {model}, dropout: 0.0{more}}}
data: {{task: {task}, train: {data}, dev: {data}}}
adapter: {{{adapter}}}
head: {{{head}}}
train: {{steps: {steps}, batch_size: 4, eval_every: 100, lr: 0.01, seed: 7}}
""")
    return run("finetune", path, "--run", tmp_path / out, code=code, **options)


def predicted(run, place, data):
    return [json.loads(line) for line in run("predict", place, "--input", data, "--batch-size", 5).stdout.splitlines()]


def logits(run, place, data):
    return torch.tensor([line["logits"] for line in predicted(run, place, data)], dtype=torch.float64)


def close(found, expected, tolerance=1e-5):
    assert expected.std(0).min() > 1e-3  # rows differ
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item()), (found
        - expected).abs().max()


def alike(found, expected) -> bool:
    """Equal but for rounding: with adapters and without, a layer's products are summed in another order."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return found == (pytest.approx(expected, rel=1e-5, abs=1e-6) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_in_the_files_scores_as_in_transformers(name, run, tmp_path):
    model = classifier(name, tmp_path / "hf")
    rows = texts()
    expected = logits_of(model, rows)
    best = expected.argmax(1).tolist()
    truth = [(best[i] + (i % 4 == 0)) % 3 for i in range(len(rows))]
    data = write(tmp_path / "rows.jsonl", rows, [CLASSES[i] for i in truth])
    finetune(run, tmp_path, tmp_path / "hf", data, "run")
    lines = predicted(run, tmp_path / "run", data)
    close(torch.tensor([line["logits"] for line in lines], dtype=torch.float64), expected)
    assert [line["prediction"] for line in lines] == [CLASSES[i] for i in best]
    scores = json.loads(run("evaluate", tmp_path / "run", "--data", data, "--json").stdout)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, best))
    assert scores["loss"] == pytest.approx(torch.nn.functional.cross_entropy(expected, torch.tensor(truth)).item(),
                                           rel=1e-5)
    # without a run
    assert alike(predicted(run, tmp_path / "hf", data), lines)
    assert alike(json.loads(run("evaluate", tmp_path / "hf", "--data", data, "--json").stdout), scores)


def pretrained(name, folder, kind):
    """A folder without such a head: the base model alone, or under the layer that it was pre-trained with."""
    suffix = {"base": "TextModel" if name == "gemma3_text" else "Model"}.get(kind, HEADS[name][2])
    if name == "gemma3_text":
        torch.manual_seed(1)
        model_class = transformers.Gemma3TextModel if kind == "base" else transformers.Gemma3ForCausalLM
        model = model_class(transformers.Gemma3TextConfig(**HEADS[name][1])).eval()
    else:
        model = model_of(name, suffix)
    model.save_pretrained(folder)


TARGETS = {"gpt2": "attention-mlp"}


@pytest.mark.parametrize("kind", ["base", "pretrained"])
@pytest.mark.parametrize("name", HEADS)
def test_a_started_head_opens_in_transformers_and_peft_and_reads_back(name, kind, run, tmp_path):
    from peft import PeftModel

    pretrained(name, tmp_path / "hf", kind)
    rows, labels = texts(), ["red", "green", "blue", "green"] * 3
    data = write(tmp_path / "rows.jsonl", rows, labels)
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: lora, rank: 2, targets: attention-mlp", steps=4)
    expected = logits(run, tmp_path / "run", data)
    for form in ("safetensors", "peft"):
        run("export", tmp_path / "run", "--to", form, "--output", tmp_path / form)
    auto = transformers.AutoModelForSequenceClassification
    merged, report = auto.from_pretrained(tmp_path / "safetensors", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    close(logits_of(merged, rows), expected)
    config = merged.config
    assert config.architectures == [type(merged).__name__] == [HEADS[name][0] + "ForSequenceClassification"]
    assert config.num_labels == 3 and config.problem_type == "single_label_classification"
    assert config.id2label == {0: "blue", 1: "green", 2: "red"} and config.label2id == {"blue": 0, "green": 1, "red": 2}
    # PEFT on the model that it was trained on; whatever transformers starts there is in the folder
    base = auto.from_pretrained(tmp_path / "hf", num_labels=3).eval()
    adapted = PeftModel.from_pretrained(base, tmp_path / "peft")
    settings = json.loads((tmp_path / "peft/adapter_config.json").read_text())
    assert settings["task_type"] == "SEQ_CLS" and settings["modules_to_save"]
    close(logits_of(adapted, rows), expected)
    assert "AutoModelForSequenceClassification" in (tmp_path / "peft/README.md").read_text() and not (
        tmp_path / "peft/head.safetensors").exists()
    # and here
    finetune(run, tmp_path, tmp_path / "safetensors", data, "merged")
    close(logits(run, tmp_path / "merged", data), expected)
    finetune(run, tmp_path, tmp_path / "hf", data, "again", f"path: {tmp_path}/peft")
    close(logits(run, tmp_path / "again", data), expected)


def test_several_rows_at_once_are_classified_as_alone(run, tmp_path):
    """A decoder's config without padding token gets the tokenizer's, so that transformers takes several texts."""
    import make_tiny_models

    make_tiny_models.make("qwen2", str(tmp_path / "hf"))
    config = json.loads((tmp_path / "hf/config.json").read_text())
    config.pop("pad_token_id", None)
    (tmp_path / "hf/config.json").write_text(json.dumps(config))
    named = json.loads((tmp_path / "hf/tokenizer_config.json").read_text())
    (tmp_path / "hf/tokenizer_config.json").write_text(json.dumps({**named, "pad_token": "<|endoftext|>"}))
    words = ["red house", "a blue car and a tree", "old", "new and small"]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": f"c{i % 2}"}) + "\n" for i, text in enumerate(words)))
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: lora, rank: 2", steps=3)
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert tokenizer.pad_token_id is not None and model.config.pad_token_id == tokenizer.pad_token_id
    with torch.no_grad():
        found = model(**{k: v for k, v in tokenizer(words, padding=True, return_tensors="pt").items()
                         if k != "token_type_ids"}).logits
    close(found.double(), logits(run, tmp_path / "run", data))


@pytest.mark.parametrize("name, layer, spread", [("roberta", "classifier.dense", 0.2), ("bert", "pooler.dense", 0.2),
                                                 ("distilbert", "pre_classifier", 0.2),
                                                 ("bart", "classification_head.dense", 0.2),
                                                 ("t5", "classification_head.dense", 32 ** -0.5),
                                                 ("deberta-v2", "pooler.dense", 0.2), ("modernbert-mean", "head.dense",
                                                     0.2 / 2 * 0.8796)])
def test_heads_start_as_transformers_starts_them(name, layer, spread, run, tmp_path):
    # ModernBERT's pre-training has this part of the head already; what is started of it is cut at two spreads
    pretrained(name, tmp_path / "hf", "base" if name == "modernbert-mean" else "pretrained")
    data = write(tmp_path / "rows.jsonl", texts(), ["red", "green", "blue"] * 4)
    finetune(run, tmp_path, tmp_path / "hf", data, "run")
    held = load_file(tmp_path / "run/adapter.safetensors")
    weight, bias = (next(value for key, value in held.items() if key.endswith(f"{layer}.{part}")) for part in ("weight",
        "bias"))
    theirs = getattr(transformers, HEADS[name][0] + "ForSequenceClassification").from_pretrained(tmp_path / "hf")
    other = next(value for key, value in theirs.named_parameters() if key.endswith(layer + ".weight"))
    assert bias.abs().max() == 0 and weight.shape == other.shape
    assert abs(weight.mean()) < 4 * spread / 32
    for drawn in (weight, other):  # 1024 numbers: the spread of their spread is 2.2 %
        assert drawn.std().item() == pytest.approx(spread, rel=0.1)


class TestClasses:
    @pytest.fixture
    def model(self, tmp_path):
        return classifier("xlm-roberta", tmp_path / "hf")

    @pytest.mark.parametrize("spelt", [["neutral", "Entailment", "contradiction"], ["NEUTRAL", "entailment",
        "Contradiction"], ["0", "1", "2"],
                                       ["LABEL_0", "LABEL_1", "LABEL_2"]])
    def test_names_cases_and_numbers_are_the_models_classes(self, spelt, model, run, tmp_path):
        rows = texts()
        best = logits_of(model, rows).argmax(1).tolist()
        data = write(tmp_path / "rows.jsonl", rows, [spelt[i] for i in best])
        finetune(run, tmp_path, tmp_path / "hf", data, "run")
        for place in (json.loads((tmp_path / "run/result.json").read_text())["last"],
                      json.loads(run("evaluate", tmp_path / "run", "--data", data, "--json").stdout)):
            assert place["accuracy"] == 1.0

    def test_a_file_without_one_of_the_classes_is_no_mistake(self, model, run, tmp_path):
        rows = texts()
        data = write(tmp_path / "rows.jsonl", rows, ["Entailment"] * len(rows))
        finetune(run, tmp_path, tmp_path / "hf", data, "run")
        close(logits(run, tmp_path / "run", data), logits_of(model, rows))

    def test_other_labels_are_an_error_that_names_them(self, model, run, tmp_path):
        data = write(tmp_path / "rows.jsonl", texts(), ["neutral", "maybe", "7"] * 4)
        said = finetune(run, tmp_path, tmp_path / "hf", data, "run", code=1).stderr
        assert ("'7'" in said and "'maybe'" in said and "'neutral'" not in said and "Entailment" in said
                and "head.type: linear" in said)
        # whose classes are those of the rows
        finetune(run, tmp_path, tmp_path / "hf", data, "linear", head="type: linear")
        assert predicted(run, tmp_path / "linear", data)[0]["prediction"] in ("neutral", "maybe", "7")

    def test_placeholders_are_numbers_or_nothing(self, run, tmp_path):
        model = classifier("xlm-roberta", tmp_path / "hf", labels=["LABEL_0", "LABEL_1", "LABEL_2"])
        rows = texts()
        best = logits_of(model, rows).argmax(1).tolist()
        assert len(set(best)) > 1
        for names in (["0", "1", "2"], ["a", "b", "c"]):
            data = write(tmp_path / "rows.jsonl", rows, [names[i] for i in best[:-3]] + names)
            finetune(run, tmp_path, tmp_path / "hf", data, names[0])
            assert [line["prediction"] for line in predicted(run, tmp_path / names[0], data)] == [names[i] for i
                in best]

    def test_archives_have_classes_too(self, model, run, tmp_path):
        import export_torchscript

        rows = texts()
        expected = logits_of(model, rows)
        export_torchscript.export(str(tmp_path / "hf"), str(tmp_path / "m.pt"), "classifier", None)
        data = write(tmp_path / "rows.jsonl", rows, [CLASSES[i] for i in expected.argmax(1).tolist()])
        finetune(run, tmp_path, tmp_path / "m.pt", data, "run")
        assert json.loads((tmp_path / "run/result.json").read_text())["last"]["accuracy"] == 1.0

    def test_another_number_of_outputs_says_what_to_do(self, model, run, tmp_path):
        config = json.loads((tmp_path / "hf/config.json").read_text())
        config["id2label"] = {"0": "a", "1": "b"}
        (tmp_path / "hf/config.json").write_text(json.dumps(config))
        data = write(tmp_path / "rows.jsonl", texts(), ["a", "b"] * 6)
        said = finetune(run, tmp_path, tmp_path / "hf", data, "run", code=1).stderr
        assert "2 classes" in said and "3 outputs" in said


def has_linear_head(folder):
    with safe_open(folder / "adapter.safetensors", "pt") as file:
        names = set(file.keys())
    assert ("head/weight" in names) != any(name.startswith("base/") for name in names), names
    return "head/weight" in names


def test_auto_takes_the_familys_head_unless_pooling_is_asked_for(run, tmp_path):
    pretrained("bert", tmp_path / "hf", "base")
    shutil.copytree(tmp_path / "hf", tmp_path / "pooled")
    (tmp_path / "pooled/1_Pooling").mkdir()
    (tmp_path / "pooled/1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32,
        "pooling_mode_mean_tokens": True}))
    data = write(tmp_path / "rows.jsonl", texts(), ["a", "b", "c"] * 4)
    cases = {"plain": ("hf", "", "", False), "linear": ("hf", "type: linear", "", True),
             "asked": ("hf", "", ", pooling: cls", True),
             "file": ("pooled", "", "", True), "huggingface": ("pooled", "type: huggingface", "", False)}
    for out, (folder, head, more, linear) in cases.items():
        finetune(run, tmp_path, tmp_path / folder, data, out, head=head, more=more)
        assert has_linear_head(tmp_path / out) == linear, out
    said = finetune(run, tmp_path, tmp_path / "hf", data, "both", head="type: huggingface", more=", pooling: mean",
                    code=1).stderr
    assert "model.pooling" in said and "head.type: linear" in said


def test_heads_that_a_model_cannot_have_are_refused_by_name(run, tmp_path):
    import export_torchscript

    pretrained("bert", tmp_path / "hf", "base")
    classifier("bert", tmp_path / "classes")
    export_torchscript.export(str(tmp_path / "hf"), str(tmp_path / "encoder.pt"), "encoder", None)
    export_torchscript.export(str(tmp_path / "classes"), str(tmp_path / "classes.pt"), "classifier", None)
    data = write(tmp_path / "rows.jsonl", texts(), CLASSES * 4)
    said = finetune(run, tmp_path, tmp_path / "encoder.pt", data, "a", head="type: huggingface", code=1).stderr
    assert "head.type: huggingface" in said and "encoder.pt" in said and "Hugging Face folder" in said
    finetune(run, tmp_path, tmp_path / "encoder.pt", data, "auto")
    assert has_linear_head(tmp_path / "auto")
    said = finetune(run, tmp_path, tmp_path / "classes.pt", data, "b", head="type: linear", code=1).stderr
    assert "head.type: linear" in said and "--task encoder" in said
    torch.manual_seed(1)
    transformers.MarianMTModel(transformers.MarianConfig(**{**BART, "decoder_vocab_size": WORDS})).save_pretrained(
        tmp_path / "marian")
    assert "marian" in finetune(run, tmp_path, tmp_path / "marian", data, "c", head="type: huggingface", code=1).stderr
    assert "no head for classifying" in finetune(run, tmp_path, tmp_path / "marian", data, "d", code=1).stderr
    pretrained("t5", tmp_path / "t5", "base")
    assert "head.type: huggingface" in finetune(run, tmp_path, tmp_path / "t5", data, "e", head="type: linear",
                                                code=1).stderr
    short = write(tmp_path / "short.jsonl", [ids[:-1] for ids in texts()], CLASSES * 4)
    assert "eos_token_id 2" in finetune(run, tmp_path, tmp_path / "t5", short, "f", code=1).stderr


def test_decoders_take_a_linear_head_too(run, tmp_path):
    """Oracle: the states of LlamaModel, pooled at the last token."""
    pretrained("llama", tmp_path / "hf", "pretrained")
    rows = texts()
    data = write(tmp_path / "rows.jsonl", rows, ["a", "b", "c"] * 4)
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: lora, rank: 2", steps=3, more=", pooling: last")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    model, report = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    head = load_file(tmp_path / "out/head.safetensors")
    with torch.no_grad():
        states = torch.stack([model.eval()(input_ids=torch.tensor([ids]))[0][0, -1] for ids in rows])
    expected = logits(run, tmp_path / "run", data)
    close(torch.nn.functional.linear(states, head["weight"], head["bias"]).double(), expected)
    # the folder is a model with that head here
    finetune(run, tmp_path, tmp_path / "out", data, "again")
    close(logits(run, tmp_path / "again", data), expected)
    assert json.loads((tmp_path / "out/config.json").read_text())["id2label"] == {"0": "a", "1": "b", "2": "c"}


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "bart"])
def test_a_regression_learns_in_units_of_its_targets_and_leaves_in_theirs(name, run, tmp_path):
    from peft import PeftModel

    pretrained(name, tmp_path / "hf", "pretrained")
    rows = texts()
    data = write(tmp_path / "rows.jsonl", rows, [2000 + 30 * (i % 5) for i in range(len(rows))])
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: lora, rank: 2, targets: attention-mlp", steps=15,
             task="regression")
    expected = logits(run, tmp_path / "run", data)
    if name != "gpt2":  # whose head has no bias, so that the mean has to be learnt
        assert 1900 < expected.mean() < 2200
    for form in ("safetensors", "peft"):
        run("export", tmp_path / "run", "--to", form, "--output", tmp_path / form)
    merged, report = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "safetensors",
        output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    assert merged.config.problem_type == "regression" and merged.config.num_labels == 1
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf", num_labels=1)
    for model in (merged, PeftModel.from_pretrained(base, tmp_path / "peft")):
        assert (logits_of(model, rows) - expected).abs().max() < 1e-5 * expected.abs().max()
    finetune(run, tmp_path, tmp_path / "safetensors", data, "merged", task="regression")
    finetune(run, tmp_path, tmp_path / "hf", data, "again", f"path: {tmp_path}/peft", task="regression")
    for again in ("merged", "again"):
        assert (logits(run, tmp_path / again, data) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_modernberts_whole_head_is_started_cut_and_with_a_norm_of_ones(run, tmp_path):
    from scipy.stats import ks_2samp

    torch.manual_seed(1)
    settings = dict(HEADS["modernbert-mean"][1], hidden_size=96)
    transformers.ModernBertModel(transformers.ModernBertConfig(**settings)).save_pretrained(tmp_path / "hf")
    data = write(tmp_path / "rows.jsonl", texts(), ["red", "green", "blue"] * 4)
    finetune(run, tmp_path, tmp_path / "hf", data, "run")
    held = {name.removeprefix("base/"): value for name,
            value in load_file(tmp_path / "run/adapter.safetensors").items()}
    theirs = transformers.ModernBertForSequenceClassification.from_pretrained(tmp_path / "hf",
        num_labels=3).state_dict()
    for layer in ("head.dense", "classifier"):
        ours, other = held[f"{layer}.weight"].flatten(), theirs[f"{layer}.weight"].flatten()
        assert ours.shape == other.shape and ks_2samp(ours, other).pvalue > 1e-3
    limit = 2 * 0.2 / 2  # two spreads
    assert 0.95 * limit < held["head.dense.weight"].abs().max() <= limit * (1 + 1e-6)
    assert torch.equal(held["head.norm.weight"], torch.ones(96)) and torch.equal(held["head.norm.bias"],
        torch.zeros(96))


def test_heads_of_deberta_and_modernbert_that_no_model_has_are_refused(run, tmp_path):
    for name, key, value, words in (("deberta-v2", "pooler_hidden_size", 16, ["pooler_hidden_size", "32", "16"]),
                                    ("deberta-v2", "pooler_hidden_act", "mish", ["pooler_hidden_act", "mish"]),
                                    ("modernbert", "classifier_pooling", "max", ["classifier_pooling", "cls or mean",
                                        "max"]),
                                    ("modernbert-mean", "classifier_bias", False, ["classifier_bias is false",
                                        "head.dense.bias is there"])):
        folder = tmp_path / f"{name}-{key}"
        classifier(name, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        data = write(tmp_path / "rows.jsonl", texts(), CLASSES * 4)
        said = finetune(run, tmp_path, folder, data, key, code=1).stderr
        assert all(word in said for word in words), said
    # a head for tokens or spans has the same names and is none for texts
    for suffix in ("ForTokenClassification", "ForQuestionAnswering"):
        model_of("modernbert", suffix).save_pretrained(tmp_path / suffix)
        finetune(run, tmp_path, tmp_path / suffix, data, "linear-" + suffix)
        assert has_linear_head(tmp_path / ("linear-" + suffix))


def test_a_frozen_head_stays_at_its_start_and_travels(run, tmp_path):
    pretrained("bert", tmp_path / "hf", "pretrained")  # which has no pooler
    rows = texts()
    data = write(tmp_path / "rows.jsonl", rows, ["a", "b", "c"] * 4)
    finetune(run, tmp_path, tmp_path / "hf", data, "start", head="train: false", steps=0)
    finetune(run, tmp_path, tmp_path / "hf", data, "run", "method: lora, rank: 2", head="train: false", steps=5)
    before, after = (load_file(tmp_path / out / "adapter.safetensors") for out in ("start", "run"))
    names = {"base/classifier.weight", "base/classifier.bias", "base/bert.pooler.dense.weight",
             "base/bert.pooler.dense.bias"}
    assert names <= set(before) and names <= set(after) and all(torch.equal(before[name], after[name]) for name
                                                                in names)
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    close(logits_of(transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out"), rows),
          logits(run, tmp_path / "run", data))
