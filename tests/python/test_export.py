"""tools/export_torchscript.py. Oracle: the same folder loaded by transformers and run with its own masks."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
import transformers

import export_torchscript
import torchscript_tracing
from conftest import ROOT

CLASSES = {"encoder": transformers.AutoModel, "classifier": transformers.AutoModelForSequenceClassification,
           "causal-lm": transformers.AutoModelForCausalLM, "seq2seq": transformers.AutoModelForSeq2SeqLM}
# One for each way of handling masks, positions and segments. mistral has a sliding window shorter than the inputs here.
FAMILIES = [
    ("bert", "encoder"), ("bert-classifier", "classifier"), ("roberta", "encoder"), ("albert", "encoder"),
    ("mpnet", "encoder"), ("deberta-v2", "encoder"), ("gpt2", "causal-lm"), ("llama", "causal-lm"),
    ("mistral", "causal-lm"),
    ("opt", "causal-lm"), ("t5", "seq2seq"), ("marian", "seq2seq")]


def padded(config, lengths: list[int], generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) [B, T] with rows of these lengths, padded on the right."""
    pad = config.pad_token_id or 0
    ids = torch.randint(5, config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return ids.masked_fill(mask == 0, pad), mask


def inputs_of(config, names: list[str]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    ids, mask = padded(config, [17, 3, 9, 1, 17], generator)
    values = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in names:
        values["token_type_ids"] = (torch.arange(17) > 4).long().expand(5, 17)
    if "decoder_input_ids" in names:
        values["decoder_input_ids"], values["decoder_attention_mask"] = padded(config, [4, 13, 1, 6, 2], generator)
    return values


def extras(path, *names: str) -> list[bytes]:
    files = {name: "" for name in names}
    torch.jit.load(str(path), _extra_files=files)
    return [files[name] for name in names]


@pytest.mark.parametrize("name, task", FAMILIES)
def test_archive_computes_what_transformers_computes(name, task, tiny_folder, tiny_archive):
    archive = tiny_archive(name)
    about = json.loads(extras(archive, "export.json")[0])
    assert about["task"] == task
    original = CLASSES[task].from_pretrained(tiny_folder(name), attn_implementation="eager").eval()
    inputs = inputs_of(original.config, about["inputs"])
    with torch.no_grad():
        want, got = original(**inputs)[0], torch.jit.load(str(archive))(**inputs)
    assert got.shape == want.shape
    if want.dim() == 3:
        seen = inputs.get("decoder_attention_mask", inputs["attention_mask"]) > 0
        want, got = want[seen], got[seen]
    # float32 rounding of two layers; other masks or positions move these outputs by more than 1e-2
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * want.abs().max().item())


def test_padding_on_the_left_counts_positions_without_it(tiny_folder, tiny_archive):
    # Oracle: a causal model says the same about a text, whatever stands before it in the batch.
    traced = torch.jit.load(str(tiny_archive("llama")))
    ids = torch.tensor([[7, 8, 9, 10, 11]])
    left = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], 1)
    with torch.no_grad():
        plain = traced(ids, torch.ones_like(ids))
        moved = traced(left, torch.tensor([[0] * 4 + [1] * 5]))
    torch.testing.assert_close(moved[:, 4:], plain, rtol=1e-5, atol=1e-5)


SHORT = {
    "bert": ("encoder", lambda n: transformers.BertModel(transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=n))),
    "gpt2": ("causal-lm", lambda n: transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=n))),
    "bart": ("seq2seq", lambda n: transformers.BartForConditionalGeneration(transformers.BartConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=n)))}


@pytest.mark.parametrize("family", SHORT)
@pytest.mark.parametrize("positions", [3, 4, 8])
def test_models_of_few_positions_are_traced(family, positions, tmp_path):
    task, make = SHORT[family]
    model = make(positions).eval()
    model.save_pretrained(tmp_path / "folder")
    export_torchscript.export(str(tmp_path / "folder"), str(tmp_path / "m.pt"))
    traced = torch.jit.load(str(tmp_path / "m.pt"))
    for length in range(1, positions + 1):  # to the last position that there is
        ids = torch.randint(4, 40, (3, length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if family == "bert":
            inputs["token_type_ids"] = torch.randint(0, 2, ids.shape)
        if family == "bart":
            inputs.update(decoder_input_ids=ids.flip(1), decoder_attention_mask=torch.ones_like(ids))
        with torch.no_grad():
            torch.testing.assert_close(traced(**inputs), model(**inputs)[0], rtol=1e-5, atol=1e-5)


def test_minilm_keeps_names_weights_and_files(minilm_folder, tmp_path):
    path = tmp_path / "minilm.pt"
    about = export_torchscript.export(str(minilm_folder), str(path))
    assert about == {
        "source": str(minilm_folder), "prefix": "model.", "task": "encoder", "architecture": "BertModel",
        "transformers": transformers.__version__,
        "torch": torch.__version__, "dtype": "float32", "inputs": ["input_ids", "attention_mask", "token_type_ids"],
        "output": "hidden", "num_labels": None}
    original = transformers.AutoModel.from_pretrained(minilm_folder, add_pooling_layer=False)
    parameters = dict(torch.jit.load(str(path)).named_parameters())
    assert set(parameters) == {"model." + name for name, _ in original.named_parameters()}
    for name, value in original.named_parameters():
        assert torch.equal(parameters["model." + name], value), name
    files = {"tokenizer.json": "tokenizer.json", "vocab.txt": "vocab.txt",
             "tokenizer_config.json": "tokenizer_config.json",
             "special_tokens_map.json": "special_tokens_map.json", "config.json": "config.json",
             "pooling.json": "1_Pooling/config.json", "sentence_bert_config.json": "sentence_bert_config.json"}
    for content, source in zip(extras(path, *files), files.values()):
        assert content == (minilm_folder / source).read_bytes(), source


def test_dropout_stays_in_the_graph_switched_off(tiny_archive):
    graph = torch.jit.load(str(tiny_archive("bert"))).inlined_graph
    nodes = graph.findAllNodes("aten::dropout")
    # embeddings, and in each of 2 layers attention scores, attention output and feed-forward
    assert len(nodes) == 1 + 2 * 3
    assert {list(node.inputs())[2].toIValue() for node in nodes} == {False}
    assert all(list(node.inputs())[1].toIValue() == pytest.approx(0.1) for node in nodes)


def test_new_head_has_the_labels_asked_for_and_a_fixed_seed(tiny_folder, tmp_path, capsys):
    weights = []
    for file in ("a.pt", "b.pt"):
        about = export_torchscript.export(str(tiny_folder("roberta")), str(tmp_path / file), "classifier", 5)
        assert about["num_labels"] == 5 and about["output"] == "logits"
        weights.append(dict(torch.jit.load(str(tmp_path / file)).named_parameters())[
            "model.classifier.out_proj.weight"])
    assert weights[0].shape == (5, 32)
    assert torch.equal(*weights)
    assert "note: new random weights (seed 0): classifier.dense.bias" in capsys.readouterr().err
    assert len(json.loads(extras(tmp_path / "a.pt", "config.json")[0])["id2label"]) == 5


def test_trained_head_keeps_its_label_names(tiny_archive):
    config = json.loads(extras(tiny_archive("bert-classifier"), "config.json")[0])
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}


def test_slow_tokenizer_gets_a_tokenizer_json_that_agrees_with_it(tiny_folder, tiny_archive):
    import sentencepiece
    import tokenizers

    spiece, made = extras(tiny_archive("t5"), "spiece.model", "tokenizer.json")
    assert spiece == (tiny_folder("t5") / "spiece.model").read_bytes()
    slow, text = sentencepiece.SentencePieceProcessor(model_proto=spiece), "The happy cat doesn't sleep on the table."
    assert tokenizers.Tokenizer.from_str(made.decode()).encode(text).ids == [*slow.encode(text), slow.eos_id()]


def test_half_precision_weights_and_output(tiny_folder, tmp_path):
    export_torchscript.export(str(tiny_folder("gpt2")), str(tmp_path / "half.pt"), dtype="bfloat16")
    traced = torch.jit.load(str(tmp_path / "half.pt"))
    assert {p.dtype for p in traced.parameters()} == {torch.bfloat16}
    ids = torch.tensor([[5, 6, 7]])
    assert traced(ids, torch.ones_like(ids)).dtype == torch.bfloat16


def test_archive_still_runs_after_it_is_converted_to_another_dtype(tiny_archive):
    traced = torch.jit.load(str(tiny_archive("bert")))
    ids = torch.tensor([[5, 6, 7, 0]])
    mask, segments = torch.tensor([[1, 1, 1, 0]]), torch.zeros_like(ids)
    with torch.no_grad():
        want = traced(ids, mask, segments)
        got = traced.to(torch.float64)(ids, mask, segments)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.float(), want, rtol=1e-5, atol=1e-5)


# ---- mistakes: one line, exit code 1, nothing written ----


def broken_weights(tiny, folder):
    shutil.copytree(tiny("bert"), folder)
    from safetensors.torch import load_file, save_file

    kept = load_file(folder / "model.safetensors")
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def only_config(tiny, folder):
    folder.mkdir()
    shutil.copy(tiny("bert") / "config.json", folder)
    return folder


def folder_with(text):
    def make(tiny, folder):
        folder.mkdir()
        (folder / "config.json").write_text(text)
        return folder

    return make


def empty_folder(tiny, folder):
    folder.mkdir()
    return folder


def tiny_named(name):
    return lambda tiny, folder: tiny(name)


MISTAKES = {
    "no such folder": (lambda tiny, folder: folder, [], "not a folder"),
    "no config": (empty_folder, [], "no config.json"),
    "broken config": (folder_with("{"), [], "config.json: broken"),
    "unknown family": (folder_with('{"model_type": "nonesuch"}'), [], "nonesuch"),
    "no text model": (folder_with('{"model_type": "vit"}'), [], "unsupported architecture: model type 'vit'"),
    "no weights": (only_config, [], "cannot load the model"),
    "missing weight": (broken_weights, [], "weights are missing: encoder.layer.1.output.dense.weight"),
    "causal task of an encoder": (tiny_named("bert"), ["--task", "causal-lm"], "expected --task encoder or classifier"),
    "encoder task of a decoder": (tiny_named("gpt2"), ["--task", "encoder"], "expected --task causal-lm"),
    "head without size": (tiny_named("bert"), ["--task", "classifier"], "pass --num-labels N"),
    "size without head": (tiny_named("bert"), ["--num-labels", "3"], "needs --task classifier"),
    "no labels": (tiny_named("bert"), ["--task", "classifier", "--num-labels", "0"], "expected 1 or more"),
    "another size": (tiny_named("bert-classifier"), ["--num-labels", "4"], "head has 3 labels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_and_leaves_no_file(mistake, tiny_folder, tmp_path, capsys):
    make, options, expected = MISTAKES[mistake]
    folder, out = make(tiny_folder, tmp_path / "folder"), tmp_path / "out"
    out.mkdir()
    assert export_torchscript.main([str(folder), str(out / "model.pt"), *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0], lines
    assert list(out.iterdir()) == []


def test_wrong_trace_is_an_error(tiny_folder, tmp_path, monkeypatch, capsys):
    class Wrong(torchscript_tracing.CausalWrapper):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask) * 1.001

    monkeypatch.setattr(torchscript_tracing, "CausalWrapper", Wrong)
    assert export_torchscript.main([str(tiny_folder("gpt2")), str(tmp_path / "model.pt")]) == 1
    assert "outputs differ by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check, code", [("--check", 1), ("--no-check", 0)])
def test_written_file_is_compared_unless_told_not_to(check, code, tiny_folder, tmp_path, monkeypatch, capsys):
    load = torch.jit.load

    def damaged(path):
        module = load(path)
        with torch.no_grad():
            next(module.parameters()).mul_(1.01)
        return module

    monkeypatch.setattr(torch.jit, "load", damaged)
    assert export_torchscript.main([str(tiny_folder("gpt2")), str(tmp_path / "model.pt"), check]) == code
    said = capsys.readouterr()
    assert [p.name for p in tmp_path.iterdir()] == (["model.pt"] if code == 0 else [])
    assert ("the saved archive does not compute" in said.err) == (code == 1)
    assert ("the written file was not checked" in said.out) == (code == 0)


def test_command_line_exports_and_says_what(tiny_folder, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "export_torchscript.py"), str(tiny_folder("bert")),
         str(tmp_path / "new" / "bert.pt")],
        capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "BertModel, encoder, inputs input_ids, attention_mask, token_type_ids" in done.stdout
    assert (tmp_path / "new" / "bert.pt").is_file()
