"""Folders that PEFT writes, read by the program: the logits are PEFT's, or the key that is not followed is named. And
back: what the program writes loads in PEFT."""
from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

VOCABULARY, PAD = 96, 0
SEQ2SEQ = {"t5"}


def small(name):
    """A random model of 32 columns and 2 layers, weights far from each other's size."""
    import transformers as t

    common = dict(vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=1, eos_token_id=2)
    wide = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=64, **common)
    if name == "bert":
        return t.BertForSequenceClassification(t.BertConfig(num_labels=2, **wide))
    if name == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, **wide))
    if name == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(num_key_value_heads=2, tie_word_embeddings=False, **wide))
    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common))
    return t.T5ForConditionalGeneration(t.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                                                   decoder_start_token_id=PAD, **common))


ATTENTION = {"bert": ["query", "value"], "qwen2": ["q_proj", "v_proj"], "llama": ["q_proj", "v_proj"],
             "gpt2": ["c_attn"], "t5": ["q", "v"]}
TASK = {"bert": "classification", "t5": "seq2seq"}


class Case:
    """A model's folder and archive, rows for the program, and one batch."""

    def __init__(self, name, root):
        import export_torchscript

        self.name, self.folder, self.archive, self.rows = name, root / "hf", root / "model.pt", root / "rows.jsonl"
        torch.manual_seed(len(name))
        model = small(name)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(3)
        model.save_pretrained(self.folder)
        export_torchscript.export(str(self.folder), str(self.archive), check=False)
        ids = torch.randint(5, VOCABULARY, (3, 9))
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if name in SEQ2SEQ:
            self.inputs["decoder_input_ids"] = torch.randint(5, VOCABULARY, (3, 6))
        rows = [{"input_ids": row, **({"label": i % 2} if name == "bert" else {"labels": row})} for i,
                row in enumerate(ids.tolist())]
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def base(self):
        return type(small(self.name)).from_pretrained(self.folder, attn_implementation="eager").eval()

    def logits(self, model):
        with torch.no_grad():
            return model(**self.inputs).logits

    def archive_logits(self, path):
        module = torch.jit.load(str(path))
        inputs = dict(self.inputs, token_type_ids=torch.zeros_like(self.inputs["input_ids"]))
        if self.name in SEQ2SEQ:
            inputs["decoder_attention_mask"] = torch.ones_like(inputs["decoder_input_ids"])
        names = [argument.name for argument in module.forward.schema.arguments[1:]]
        with torch.no_grad():
            return module(**{name: inputs[name] for name in names})

    def config(self, path, adapter, extra="steps: 0", backend="auto", head=""):
        path.write_text(f"""model: {{path: {self.archive}, dropout: 0.0, backend: {backend}}}
data: {{task: {TASK.get(self.name, 'causal-lm')}, train: {self.rows}, dev: {self.rows}}}
adapter: {{{adapter}}}
{head}
train: {{{extra}, batch_size: 3, eval_every: 100, lr: 0.02}}
""")
        return path


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = Case(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def peft_folder(case, folder, **options):
    """Saves an adapter whose factors, biases and saved modules are all off their start; returns the logits of the
    folder as PEFT loads it."""
    from peft import LoraConfig, PeftModel, get_peft_model

    options = {"r": 2, "lora_alpha": 3, "target_modules": ATTENTION[case.name], **options}
    model = get_peft_model(case.base(), LoraConfig(**options)).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name and "magnitude" in name:
                value.mul_(1 + 0.3 * torch.rand_like(value))
            elif value.requires_grad and "base_layer" not in name or "lora_" in name:
                value.add_(0.3 * torch.randn_like(value))
            elif value.requires_grad:
                value.add_(0.2 * torch.randn_like(value))
    model.save_pretrained(folder)
    return case.logits(PeftModel.from_pretrained(case.base(), folder).eval())


def merged_logits(run, case, folder, tmp_path, head=""):
    run("finetune", case.config(tmp_path / "c.yaml", f"path: {folder}", head=head), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    return case.archive_logits(tmp_path / "merged.pt")


def assert_close(found, expected, what=5e-5):  # weights are large here: float32 rounds the logits by up to 1.5e-5
    difference = (found - expected).abs().max().item() / expected.abs().max().item()
    assert difference < what, difference


FIRST = {name: targets[0] for name, targets in ATTENTION.items()}
FOLLOWED = {
    "plain": lambda n: {},
    "stabilised": lambda n: {"use_rslora": True},
    "dora": lambda n: {"use_dora": True},
    "stabilised dora": lambda n: {"use_dora": True, "use_rslora": True},
    "gaussian": lambda n: {"init_lora_weights": "gaussian"},
    "orthogonal": lambda n: {"init_lora_weights": "orthogonal"},
    "eva": lambda n: {"init_lora_weights": "eva"},
    "ranks": lambda n: {"rank_pattern": {FIRST[n]: 4}, "alpha_pattern": {FIRST[n]: 5}},
    "ranks by expressions": lambda n: {"rank_pattern": {"(nothing|" + FIRST[n] + ")": 3, r".*\.1\..*": 1},
                                       "alpha_pattern": {r"[a-z]+\.[0]\..*" + FIRST[n]: 7}, "use_rslora": True},
    "one layer": lambda n: {"layers_to_transform": [1], "layers_pattern": {"bert": "layer", "gpt2": "h",
        "t5": "block"}.get(n, "layers")},
    "expression": lambda n: {"target_modules": r".*\.[01]\..*" + FIRST[n]},
    "all linear": lambda n: {"target_modules": "all-linear", "exclude_modules": [FIRST[n]]},
    "biases of adapted layers": lambda n: {"bias": "lora_only"},
    "all biases": lambda n: {"bias": "all"},
    "fan in": lambda n: {"fan_in_fan_out": n != "gpt2"},
}
MATRIX = [(model, key) for model in ATTENTION for key in FOLLOWED]


@pytest.mark.parametrize("model, key", MATRIX)
def test_followed_settings_give_the_logits_of_peft(model, key, run, case, tmp_path):
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", **FOLLOWED[key](model))
    assert (expected - c.logits(c.base())).abs().max() > 1e-3 * expected.abs().max()
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)


@pytest.mark.parametrize("model, options", [
    ("llama", {"init_lora_weights": "pissa"}), ("llama", {"init_lora_weights": "olora"}),
    ("bert", {"init_lora_weights": "pissa", "use_rslora": True}),
    ("gpt2", {"init_lora_weights": "pissa"}), ("qwen2", {"init_lora_weights": "olora", "rank_pattern": {"q_proj": 4}})])
def test_residuals_are_made_as_peft_makes_them_or_refused(model, options, run, case, tmp_path):
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", **options)
    if model == "gpt2":  # stored transposed
        said = run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run", tmp_path / "run",
                   code=1).stderr
        assert "init_lora_weights" in said
        return
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)


@pytest.mark.parametrize("head", ["", "head: {train: false}"])
def test_a_saved_head_is_taken_over(head, run, case, tmp_path):
    c = case("bert")
    expected = peft_folder(c, tmp_path / "peft", task_type="SEQ_CLS")
    assert json.loads((tmp_path / "peft/adapter_config.json").read_text())["modules_to_save"]
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path, head), expected)


@pytest.mark.parametrize("model, saved", [("llama", "norm"), ("bert", "dense")])
def test_other_saved_modules_are_taken_over(model, saved, run, case, tmp_path):
    """PEFT saves every module whose name ends like that."""
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", modules_to_save=[saved])
    assert sum("lora_" not in name for name in load_file(tmp_path / "peft/adapter_model.safetensors")) > 4
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)


@pytest.mark.parametrize("model", ["llama", "bert"])
def test_biases_of_factors_join_the_layers_own(model, run, case, tmp_path):
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", lora_bias=True)
    if model == "llama":  # has no biases
        assert "lora_bias" in run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run",
                                  tmp_path / "run", code=1).stderr
    else:
        assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)


@pytest.mark.parametrize("model, target", [("llama", "embed_tokens"), ("bert", "word_embeddings"),
                                           ("llama", "lm_head")])
def test_tables_are_compared_with_the_model(model, target, run, case, tmp_path):
    c = case(model)
    expected = peft_folder(c, tmp_path / "peft", target_modules=[FIRST[model], target])
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)
    file = tmp_path / "peft/adapter_model.safetensors"
    values = load_file(file)
    saved = [name for name in values if "lora_" not in name]
    if saved:
        values[saved[0]] = values[saved[0]] + 0.5
        save_file(values, file)
        assert "holds other values than" in run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"),
                                                "--run", tmp_path / "other", code=1).stderr


@pytest.mark.parametrize("model, target", [("qwen2", "lm_head"), ("qwen2", "embed_tokens"), ("gpt2", "wte")])
def test_one_use_of_a_tied_weight_is_refused(model, target, run, case, tmp_path):
    c = case(model)
    peft_folder(c, tmp_path / "peft", target_modules=[FIRST[model], target])
    said = run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run", tmp_path / "run",
               code=1).stderr
    assert "this weight is tied" in said and target in said


REFUSED = {
    "init_lora_weights": ["pissa_niter_2", "loftq", "lora_ga", "corda", "mica", 3], "alora_invocation_tokens": [[7]],
    "use_qalora": [True], "use_bdlora": [{"nblocks": 2}],
    "arrow_config": [{"top_k": 2}], "kasa_config": [{"beta": 1}], "velora_config": [{"rank": 1}],
    "monteclora_config": [{"n": 1}], "target_parameters": [["a.weight"]],
    "trainable_token_indices": [[1, 2]], "layer_replication": [[[0, 2]]], "megatron_config": [{"a": 1}],
    "key_of_tomorrow": [1], "bias": ["some"],
    "rank_pattern": [{"q_proj": 3}, {"(?<=x)q": 4}, {"q_proj": "x"}], "target_modules": [["k_proj"], r".*k_proj"],
    "exclude_modules": [["q_proj"], ".*q_proj"],
    "layers_to_transform": [[0]], "modules_to_save": [["q_proj"]], "peft_type": ["LOHA"]}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in REFUSED.items() for value in values])
def test_other_settings_are_refused_by_their_names(key, value, run, case, tmp_path):
    c = case("llama")
    if not (c.folder.parent / "plain").exists():
        peft_folder(c, c.folder.parent / "plain")
    shutil.copytree(c.folder.parent / "plain", tmp_path / "peft")
    file = tmp_path / "peft/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    said = run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run", tmp_path / "run",
               code=1).stderr
    assert key in said and said.startswith("error: ") and not (tmp_path / "run").exists()


FOLLOWED_KEYS = {"r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform",
                 "layers_pattern", "rank_pattern", "alpha_pattern", "bias",
                 "lora_bias", "use_rslora", "use_dora", "init_lora_weights", "modules_to_save", "fan_in_fan_out",
                 "peft_type"}
# Settings of training and of whoever made the folder: the same numbers come out whatever they are.
PASSED_OVER = {"task_type": "FEATURE_EXTRACTION", "auto_mapping": {"base_model_class": "Other",
    "parent_library": "nowhere"}, "peft_version": "0.10.0",
               "base_model_name_or_path": "some/other", "revision": "abc", "inference_mode": False,
               "megatron_core": "other.core", "loftq_config": {"loftq_bits": 4},
               "eva_config": {"rho": 2.0}, "corda_config": {"corda_method": "kpm"},
               "lora_ga_config": {"direction": "ArB2r"},
               "runtime_config": {"ephemeral_gpu_offload": False}, "ensure_weight_tying": True, "qalora_group_size": 8}


def test_every_setting_of_peft_is_followed_passed_over_or_refused():
    import dataclasses

    from peft import LoraConfig

    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    assert fields - FOLLOWED_KEYS - PASSED_OVER.keys() - REFUSED.keys() == set()
    assert not FOLLOWED_KEYS & PASSED_OVER.keys() and not PASSED_OVER.keys() & REFUSED.keys()


@pytest.mark.parametrize("key", PASSED_OVER)
def test_settings_that_change_no_number_are_passed_over(key, run, case, tmp_path):
    c = case("llama")
    expected = peft_folder(c, tmp_path / "peft")
    file = tmp_path / "peft/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: PASSED_OVER[key]}))
    assert_close(merged_logits(run, c, tmp_path / "peft", tmp_path), expected)


MODULES = {"bert": ["query", "key", "value", "dense"], "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"],
           "llama": ["q_proj", "k_proj", "down_proj", "gate_proj"],
           "gpt2": ["c_attn", "c_proj", "c_fc"], "t5": ["q", "k", "v", "o", "wi", "wo"]}


def drawn_settings(name, rng):
    """Settings of LoraConfig, several of them at once."""
    modules = MODULES[name]
    some = rng.sample(modules, rng.randint(1, len(modules)))
    ways = {
        "r": lambda: rng.choice([1, 3, 5]), "lora_alpha": lambda: rng.choice([1, 4, 7.5]), "lora_dropout": lambda: 0.2,
        "use_rslora": lambda: True, "use_dora": lambda: True,
        "bias": lambda: rng.choice(["none", "all", "lora_only"]), "lora_bias": lambda: True,
        "fan_in_fan_out": lambda: name == "gpt2",
        "rank_pattern": lambda: {rng.choice([m, rf".*\.1\..*{m}", f"({m}|nothing)"]): rng.randint(1, 4) for m
                                 in rng.sample(some, rng.randint(1, len(some)))},
        "alpha_pattern": lambda: {rng.choice(some): rng.choice([2, 6.5])},
        "layers_to_transform": lambda: rng.choice([0, [1], [0, 1]]),
        "exclude_modules": lambda: rng.choice([[rng.choice(modules)], r".*\.0\..*" + rng.choice(modules)]),
        "init_lora_weights": lambda: rng.choice([True, False, "gaussian", "orthogonal", "pissa", "olora", "eva"]),
        "trainable_token_indices": lambda: [3],
        "modules_to_save": lambda: [{"bert": "pooler", "gpt2": "ln_f", "t5": "final_layer_norm"}.get(name, "norm")],
        "layer_replication": lambda: [[0, 2]],
    }
    seldom = {"trainable_token_indices", "layer_replication", "lora_bias", "init_lora_weights"}
    drawn = {key: way() for key, way in ways.items() if rng.random() < (0.1 if key in seldom else 0.3)}
    if "layers_to_transform" in drawn:
        drawn["layers_pattern"] = {"bert": "layer", "gpt2": "h", "t5": "block"}.get(name, "layers")
    targets = rng.choice([some, some, "all-linear", r".*\.(" + "|".join(some) + ")"])
    if isinstance(targets, str):  # PEFT has the other choice for lists alone
        for key in ("layers_to_transform", "layers_pattern"):
            drawn.pop(key, None)
    return {"target_modules": targets, **drawn}


@pytest.mark.parametrize("model", ATTENTION)
def test_drawn_settings_give_the_logits_of_peft_or_are_refused_by_name(model, run, case, tmp_path):
    import random

    c, rng = case(model), random.Random(f"settings of {model}")
    equal = refused = tried = 0
    while equal + refused < 7:
        tried += 1
        assert tried < 60
        settings = drawn_settings(model, rng)
        folder = tmp_path / str(tried)
        folder.mkdir()
        try:
            expected = peft_folder(c, folder / "peft", **settings)
        except Exception:  # PEFT itself takes no such settings together
            continue
        done = run("finetune", c.config(folder / "c.yaml", f"path: {folder / 'peft'}"), "--run", folder / "run",
                   code=None)
        if done.returncode:
            assert done.returncode == 1 and done.stderr.count("error: ") == 1, done.stderr
            named = [key for key in settings if key in done.stderr] or ("tied" in done.stderr and "tied")
            assert named, (settings, done.stderr)
            refused += 1
            continue
        run("export", folder / "run", "--to", "torchscript", "--output", folder / "merged.pt")
        found = c.archive_logits(folder / "merged.pt")
        assert_close(found, expected)
        equal += 1
    assert equal >= 3, (equal, refused)


def test_a_pickle_is_refused_with_how_to_convert_it(run, case, tmp_path):
    c = case("llama")
    peft_folder(c, tmp_path / "peft")
    (tmp_path / "peft/adapter_model.safetensors").rename(tmp_path / "peft/adapter_model.bin")
    said = run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run", tmp_path / "run",
               code=1).stderr
    assert "adapter_model.bin" in said and "torch.load" in said


# ---- what the program writes ----

METHODS = ["lora", "rslora", "lora-plus", "lora-one", "lora-ga", "eva", "dora", "pissa", "polar", "deep-lora",
           "deep-lora, compress: true"]


def trained(run, c, tmp_path, adapter, head="", backend="auto"):
    run("finetune", c.config(tmp_path / "train.yaml", adapter, "steps: 4", backend, head), "--run",
        tmp_path / "trained")
    run("export", tmp_path / "trained", "--to", "torchscript", "--output", tmp_path / "trained.pt")
    return c.archive_logits(tmp_path / "trained.pt")


def with_peft(c, folder):
    from peft import PeftModel

    return c.logits(PeftModel.from_pretrained(c.base(), folder).eval())


TABLE = {"bert": "'*word_embeddings'", "llama": "'*embed_tokens'", "qwen2": "embedding", "gpt2": "'*wte'",
         "t5": "embedding"}


@pytest.mark.parametrize("model, method", [("bert", m) for m in METHODS] + [("gpt2", m) for m in METHODS]
                         + [("qwen2", "lora"), ("qwen2", "dora"), ("t5", "pissa"), ("llama", "dora")])
def test_written_folders_load_in_peft_and_here(model, method, run, case, tmp_path):
    c = case(model)
    tied_output = method == "dora" and model in ("gpt2", "qwen2")  # is refused: below
    targets = "all-linear" if tied_output else f"all-linear, {TABLE[model]}"
    expected = trained(run, c, tmp_path, f"method: {method}, rank: 3, targets: [{targets}]")
    run("export", tmp_path / "trained", "--to", "peft", "--output", tmp_path / "written", "--base", "some/model")
    settings = json.loads((tmp_path / "written/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "some/model" and "some/model" in (
        tmp_path / "written/README.md").read_text()
    assert_close(with_peft(c, tmp_path / "written"), expected, 2e-5)
    assert_close(merged_logits(run, c, tmp_path / "written", tmp_path), expected, 2e-5)


def test_ranks_of_single_weights_are_trained_written_and_read(run, case, tmp_path):
    c = case("llama")
    expected = (trained(run, c, tmp_path,
                       "method: lora, rank: 3, targets: [query, value, mlp_in], ranks: ['*.q_proj=5', '*mlp*=1'], "
                       "alphas: ['*.v_proj=4'], train_also: ['*layernorm.weight']"))
    run("export", tmp_path / "trained", "--to", "peft", "--output", tmp_path / "written")
    settings = json.loads((tmp_path / "written/adapter_config.json").read_text())
    assert len(settings["rank_pattern"]) == 4 and settings["base_model_name_or_path"] == str(c.folder) and len(
        settings["modules_to_save"]) == 4
    assert_close(with_peft(c, tmp_path / "written"), expected)
    assert_close(merged_logits(run, c, tmp_path / "written", tmp_path), expected)
    said = run("finetune", c.config(tmp_path / "c.yaml", "method: lora, targets: [query], ranks: ['*.nothing=5']"),
               "--run", tmp_path / "other", code=1).stderr
    assert "'*.nothing' matches no adapted weight" in said


@pytest.mark.parametrize("method", ["lora", "dora", "pissa"])
def test_a_head_with_an_adapter_is_not_trained_itself(method, run, case, tmp_path):
    c = case("bert")
    expected = trained(run, c, tmp_path, f"method: {method}, rank: 2, targets: [all-linear, head]")
    state = load_file(tmp_path / "trained/adapter.safetensors")
    assert "base/model.classifier.weight" not in state and "base/model.classifier.bias" in state
    run("export", tmp_path / "trained", "--to", "peft", "--output", tmp_path / "written")
    assert json.loads((tmp_path / "written/adapter_config.json").read_text())["modules_to_save"] is None
    assert_close(with_peft(c, tmp_path / "written"), expected, 2e-5)
    assert_close(merged_logits(run, c, tmp_path / "written", tmp_path), expected, 2e-5)


@pytest.mark.parametrize("bias", ["'*.bias'", "'*.query.bias'"])
def test_trained_biases_are_written_as_peft_keeps_them(bias, run, case, tmp_path):
    c = case("bert")
    expected = trained(run, c, tmp_path, f"method: lora, rank: 2, targets: [query], train_also: [{bias}]")
    run("export", tmp_path / "trained", "--to", "peft", "--output", tmp_path / "written")
    assert json.loads((tmp_path / "written/adapter_config.json").read_text())["bias"] == ("all" if bias == "'*.bias'"
        else "lora_only")
    assert_close(with_peft(c, tmp_path / "written"), expected, 2e-5)
    assert_close(merged_logits(run, c, tmp_path / "written", tmp_path), expected, 2e-5)


@pytest.mark.parametrize("model", ["gpt2", "qwen2", "t5"])
def test_dora_at_a_tied_table_is_refused(model, run, case, tmp_path):
    c = case(model)
    table = {"gpt2": "'*wte'", "qwen2": "embedding", "t5": "'*shared'"}[model]
    trained(run, c, tmp_path, f"method: dora, rank: 2, targets: [{table}, attention-mlp]")
    said = run("export", tmp_path / "trained", "--to", "peft", "--output", tmp_path / "written", code=1).stderr
    assert "lm_head" in said and "tied" in said and not (tmp_path / "written").exists()


def test_ranks_above_the_smaller_side_are_refused_by_the_modules_name(run, case, tmp_path):
    c = case("bert")
    peft_folder(c, tmp_path / "peft", target_modules=["query", "classifier"], r=3)
    said = run("finetune", c.config(tmp_path / "c.yaml", f"path: {tmp_path / 'peft'}"), "--run", tmp_path / "run",
               code=1).stderr
    assert "classifier: rank 3 is more than the smaller side" in said and "query: rank" not in said


def test_tables_that_look_themselves_up_are_refused(run, tmp_path):
    import transformers as t
    import export_torchscript

    torch.manual_seed(2)
    config = t.OPTConfig(vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=4,
                         max_position_embeddings=40, word_embed_proj_dim=32, pad_token_id=1)
    t.OPTForCausalLM(config).save_pretrained(tmp_path / "hf")
    export_torchscript.export(str(tmp_path / "hf"), str(tmp_path / "model.pt"), check=False)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"input_ids": list(range(5, 14)), "labels": list(range(5, 14))})
                                         + "\n")
    (tmp_path / "c.yaml").write_text(f"""model: {{path: {tmp_path}/model.pt}}
data: {{task: causal-lm, train: {tmp_path}/rows.jsonl}}
adapter: {{method: lora, rank: 2, targets: [query, '*embed_positions']}}
train: {{steps: 2, lr: 0.01}}
""")
    run("finetune", tmp_path / "c.yaml", "--run", tmp_path / "run")
    said = run("export", tmp_path / "run", "--to", "peft", "--output", tmp_path / "written", code=1).stderr
    assert "embed_positions" in said and not (tmp_path / "written").exists()
