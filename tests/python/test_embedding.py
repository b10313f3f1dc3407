"""Task embedding through the program. Oracle: sentence-transformers, its models, losses and evaluators."""
from __future__ import annotations

import json
import random
import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file
from test_distributed import difference, together
from test_export_contract import words_behind
from test_finetune import WORDS, result

MODULES = ["Transformer", "Pooling", "Normalize"]


def drawn_rows(form, count, seed):
    """Pairs of texts that share words; partners come more than once."""
    rng = random.Random(seed)
    out = []
    for i in range(count):
        words = rng.sample(WORDS, rng.randint(3, 7))
        row = {"text": " ".join(words), "text_pair": " ".join(rng.sample(words, 2)) + " thing"}
        if form == "triplets":
            row["negative"] = " ".join(rng.sample(WORDS, 4))
        if form == "scored":
            kept = rng.randint(0, len(words))
            row = {**row, "text_pair": " ".join(words[:kept] + rng.sample(WORDS, 3)),
                   "label": round(5 * kept / len(words), 1)}
        out.append(row)
    if form == "pairs":
        out[-1]["text_pair"] = out[0]["text_pair"]
        out[-2]["text"] = out[1]["text"]
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding-rows")
    out = {}
    for form in ("pairs", "triplets", "scored"):
        for split, count, seed in (("train", 24, 1), ("dev", 17, 2)):
            out[form, split] = folder / f"{form}-{split}.jsonl"
            out[form, split].write_text("".join(json.dumps(row) + "\n" for row in drawn_rows(form, count, seed)))
    return out


@pytest.fixture(scope="module")
def model(tiny_folder, tmp_path_factory):
    """model("bert", "mean", normalize): a tiny model's folder with the files of sentence-transformers."""
    root = tmp_path_factory.mktemp("sentence-models")

    def make(name="bert", pooling="mean", normalize=True):
        folder = root / f"{name}-{pooling}-{normalize}"
        if not folder.exists():
            shutil.copytree(tiny_folder(name), folder)
            (folder / "1_Pooling").mkdir()
            width = json.loads((folder / "config.json").read_text())
            modes = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "last": "lasttoken"}
            (folder / "1_Pooling/config.json").write_text(json.dumps({
                "word_embedding_dimension": width.get("hidden_size", width.get("dim")),
                **{f"pooling_mode_{key}": mode == pooling for mode, key in modes.items()}}))
            (folder / "modules.json").write_text(json.dumps([
                {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}",
                 "type": f"sentence_transformers.models.{kind}"}
                for i, kind in enumerate(MODULES[:2 + normalize])]))
        return folder

    return make


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    """archive("pt", "mean", normalize): that BERT as an archive or a program."""
    import export_torchscript

    root = tmp_path_factory.mktemp("archives")

    def make(ending, pooling="mean", normalize=True):
        path = root / f"{pooling}-{normalize}.{ending}"
        if not path.exists():
            export_torchscript.export(str(model("bert", pooling, normalize)), str(path), "encoder", None)
        return path

    return make


def config(tmp_path, model, files, form, adapter="method: lora, rank: 2", train="", data="", extra="", more=""):
    text = f"""model: {{path: {model}{extra}}}
data: {{task: embedding, train: {files[form, 'train']}, dev: {files[form, 'dev']}, 
       max_length: 24{', ' + data if data else ''}}}
adapter: {{{adapter}}}
train: {{batch_size: 8, log_every: 1, seed: 5, {train or 'steps: 6, eval_every: 3, lr: 1e-2'}}}
{more}"""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def texts_of(path, *columns):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [[row[column] for row in rows] for column in columns or ("text",)]


def vectors(run, place, path, *more):
    return torch.tensor([json.loads(line)["embedding"] for line in run("predict", place, "--input", path,
        *more).stdout.splitlines()], dtype=torch.float64)


def sentence_model(folder):
    from sentence_transformers import SentenceTransformer

    made = SentenceTransformer(str(folder), device="cpu")
    made.max_seq_length = 24  # data.max_length of config(); an exported folder says so itself
    return made


def encoded(folder, texts):
    from sentence_transformers import SentenceTransformer

    return torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(texts, batch_size=5), dtype=torch.float64)


@pytest.mark.parametrize("name, pooling, normalize", [("bert", "mean", True), ("roberta", "cls", False),
                                                      ("distilbert", "max", True), ("qwen2", "last", False)])
def test_the_exported_folder_encodes_as_the_run_predicts(name, pooling, normalize, run, model, files, tmp_path):
    folder = shutil.copytree(model(name, pooling, normalize), tmp_path / "hf")
    if name == "qwen2":
        named = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**named, "pad_token": "<|endoftext|>"}))
    path = config(tmp_path, folder, files, "pairs", adapter="method: lora, rank: 2, targets: attention-mlp")
    said = run("finetune", path, "--run", tmp_path / "run").stderr
    assert f"vectors: {pooling} pooling" in said and ("of length 1" in said) == normalize
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    found = vectors(run, tmp_path / "run", files["pairs", "dev"])
    (texts,) = texts_of(files["pairs", "dev"])
    assert (encoded(tmp_path / "out", texts) - found).abs().max() < 1e-5 * max(1, found.abs().max().item())
    before = encoded(folder, texts)
    assert (before - found).abs().max() > 1e-3  # it has learnt something
    assert (found.norm(dim=1) - 1).abs().max().item() < 1e-5 if normalize else True
    # the folder is such a model here too
    again = config(tmp_path, tmp_path / "out", files, "pairs", train="steps: 0")
    run("finetune", again, "--run", tmp_path / "again")
    assert (vectors(run, tmp_path / "again", files["pairs", "dev"]) - found).abs().max() < 1e-5 * max(1,
        found.abs().max().item())


def test_prefixes_are_the_exported_prompts(run, model, files, tmp_path):
    path = config(tmp_path, model(), files, "pairs", data="prefix: {query: 'good: ', passage: 'bad '}")
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "sentence-transformers", "--output", tmp_path / "out")
    (texts,) = texts_of(files["pairs", "dev"])
    peer = sentence_model(tmp_path / "out")
    as_query = vectors(run, tmp_path / "run", files["pairs", "dev"])
    as_passage = vectors(run, tmp_path / "run", files["pairs", "dev"], "--set", "data.embed_as=passage")
    assert (torch.tensor(peer.encode_query(texts)) - as_query).abs().max() < 1e-5
    assert (torch.tensor(peer.encode_document(texts)) - as_passage).abs().max() < 1e-5
    assert (as_query - as_passage).abs().max() > 1e-3


@pytest.mark.parametrize("normalize", [True, False])
def test_a_merged_archive_gives_the_vectors(normalize, run, model, archive, files, tmp_path):
    from transformers import AutoTokenizer

    run("finetune", config(tmp_path, archive("pt", "mean", normalize), files, "triplets"), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "torchscript", "--output", tmp_path / "merged.pt")
    found = vectors(run, tmp_path / "run", files["triplets", "dev"])
    assert (vectors(run, tmp_path / "merged.pt", files["triplets", "dev"]) - found).abs().max() < 1e-5 * max(1,
        found.abs().max().item())
    (texts,) = texts_of(files["triplets", "dev"])
    inputs = AutoTokenizer.from_pretrained(model("bert", "mean", normalize))(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = torch.jit.load(str(tmp_path / "merged.pt"))(inputs["input_ids"], inputs["attention_mask"],
                                                          inputs["token_type_ids"])
    assert out.shape == found.shape and (out - found).abs().max() < 1e-5 * max(1, found.abs().max().item())
    scores = json.loads(run("evaluate", tmp_path / "merged.pt", "--data", files["triplets", "dev"], "--json").stdout)
    assert scores["accuracy"] == result(tmp_path / "run")["best"]["accuracy"]
    # it can be trained on as it is
    said = run("finetune", config(tmp_path, tmp_path / "merged.pt", files, "pairs"), "--run", tmp_path / "on").stderr
    assert "vectors: the model's own" in said


def test_vectors_as_a_numpy_file_and_of_plain_texts(run, model, files, tmp_path):
    run("finetune", config(tmp_path, model(), files, "pairs"), "--run", tmp_path / "run")
    (texts,) = texts_of(files["pairs", "dev"])
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    found = vectors(run, tmp_path / "run", files["pairs", "dev"])
    for source in (files["pairs", "dev"], tmp_path / "texts.txt"):
        out = tmp_path / f"{source.stem}.npy"
        run("predict", tmp_path / "run", "--input", source, "--output", out)
        matrix = numpy.load(out)
        assert matrix.dtype == numpy.float32 and numpy.array_equal(matrix, found.numpy().astype(numpy.float32))
    one = json.loads(run("predict", tmp_path / "run", "--text", texts[3]).stdout)
    assert (torch.tensor(one["embedding"]) - found[3]).abs().max() < 1e-6


def without_repeats(rows, folder):
    """Rows whose texts are all different to the model, which reads words beyond its vocabulary as one."""
    from transformers import AutoTokenizer

    tokenizer, seen, out = AutoTokenizer.from_pretrained(folder), set(), []
    for row in rows:
        read = {tuple(tokenizer(row[column])["input_ids"]) for column in ("text", "text_pair", "negative") if column
                in row}
        if len(read) == len(row.keys() - {"label"}) and not read & seen:
            out.append(row)
            seen |= read
    assert len(out) >= 8
    return out


def test_one_step_is_one_of_sentence_transformers(run, model, files, tmp_path):
    """Plain gradient descent on every weight: its step is the gradient."""
    from sentence_transformers.sentence_transformer import losses

    cases = [("pairs", "both_directions: true", lambda m: losses.MultipleNegativesRankingLoss(m,
        directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")),
             ("triplets", "matryoshka: [16, 8]", lambda m: losses.MatryoshkaLoss(m,
                 losses.MultipleNegativesRankingLoss(m), [16, 8])),
             ("scored", "loss: cosent", losses.CoSENTLoss), ("scored", "loss: cosine, score_range: [0, 5]",
                                                             losses.CosineSimilarityLoss)]
    for form, data, make in cases:
        place = tmp_path / data.partition(":")[0] / form / data[-3:].strip("] 8e")
        place.mkdir(parents=True)
        rows = [json.loads(line) for line in files[form, "train"].read_text().splitlines()]
        rows = without_repeats(rows, model())  # right answers of other rows are left out here alone
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        path = (config(place, model(), {(form, "train"): place / "rows.jsonl", (form, "dev"): files[form, "dev"]}, form,
                      adapter="method: full", extra=", dropout: 0", data=data,
                      train="steps: 1, optimizer: sgd, momentum: 0, lr: 0.5, clip: 0, schedule: constant, batch_size: "
                            "64, keep: last").read_text().replace("batch_size: 8, ", ""))
        (place / "config.yaml").write_text(path)
        run("finetune", place / "config.yaml", "--run", place / "run")
        run("export", place / "run", "--to", "safetensors", "--output", place / "after.safetensors")
        peer = sentence_model(model())
        before = {name: value.detach().clone() for name, value in peer[0].auto_model.named_parameters()}
        columns = [c for c in ("text", "text_pair", "negative") if c in rows[0]]
        features = [peer.preprocess([row[c] for row in rows]) if hasattr(peer, "preprocess")
                    else peer.tokenize([row[c] for row in rows]) for c in columns]
        labels = torch.tensor([row.get("label", 0) / 5 for row in rows])
        peer.eval()  # no dropout
        make(peer)(features, labels).backward()
        after = load_file(place / "after.safetensors")
        moved = 0.0
        for name, value in peer[0].auto_model.named_parameters():
            if value.grad is None:
                continue
            step = (before[name] - after[name if name in after else "bert." + name]) / 0.5
            assert (step - value.grad).abs().max() < 1e-5 * max(1, value.grad.abs().max().item()), (data, name)
            moved = max(moved, value.grad.abs().max().item())
        assert moved > 1e-3, data


def test_scores_are_those_of_sentence_transformers_evaluators(run, model, files, tmp_path):
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator, TripletEvaluator)

    peer = sentence_model(model())
    found = {}
    for form in ("pairs", "triplets", "scored"):
        run("finetune", config(tmp_path, model(), files, form, train="steps: 0"), "--run", tmp_path / form)
        found[form] = result(tmp_path / form)["best"]
    a, b, scores = texts_of(files["scored", "dev"], "text", "text_pair", "label")
    expected = EmbeddingSimilarityEvaluator(a, b, scores, main_similarity="cosine")(peer)
    assert found["scored"]["spearman"] == pytest.approx(expected["spearman_cosine"], abs=1e-5)
    assert found["scored"]["pearson"] == pytest.approx(expected["pearson_cosine"], abs=1e-5)
    a, b, c = texts_of(files["triplets", "dev"], "text", "text_pair", "negative")
    assert found["triplets"]["accuracy"] == pytest.approx(TripletEvaluator(a, b, c)(peer)["cosine_accuracy"], abs=1e-6)
    a, b = texts_of(files["pairs", "dev"], "text", "text_pair")
    queries, corpus = list(dict.fromkeys(a)), list(dict.fromkeys(b))
    assert len(queries) < len(a) and len(corpus) < len(b)
    name = "{:04d}".format
    relevant = {name(i): {name(corpus.index(p)) for q, p in zip(a, b) if q == text} for i, text in enumerate(queries)}
    expected = InformationRetrievalEvaluator({name(i): t for i, t in enumerate(queries)},
                                             {name(i): t for i, t in enumerate(corpus)}, relevant)(peer)
    for ours, theirs in {"mrr@10": "mrr@10", "ndcg@10": "ndcg@10", "recall@1": "recall@1", "recall@10": "recall@10",
                         "map@100": "map@100"}.items():
        assert found["pairs"][ours] == pytest.approx(expected[f"cosine_{theirs}"], abs=1e-6), ours


@pytest.mark.parametrize("adapter", ["method: lora, rank: 2", "method: deep-lora, rank: 2",
                                     "method: deep-lora, rank: 2, compress: true", "method: full",
                                     "method: lora-one, rank: 2", "method: dora, rank: 2"])
def test_both_backends_and_several_methods_learn_the_same(adapter, run, archive, files, tmp_path):
    found = {}
    for backend in ("native", "graph"):
        path = config(tmp_path, archive("pt"), files, "pairs", adapter=adapter,
                      extra=f", backend: {backend}, dropout: 0", train="steps: 4, eval_every: 2, lr: 1e-3")
        run("finetune", path, "--run", tmp_path / backend)
        losses = [json.loads(line)["loss"] for line in (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
                  if "loss" in json.loads(line)]
        assert len(losses) >= 4
        found[backend] = vectors(run, tmp_path / backend, files["pairs", "dev"]), losses
    assert (found["native"][0] - found["graph"][0]).abs().max() < 1e-3
    assert found["native"][1] == pytest.approx(found["graph"][1], rel=1e-3)


def test_a_batch_of_negatives_may_be_computed_in_pieces(run, model, files, tmp_path):
    for name, data, rows in (("whole", "", 12), ("pieces", "negatives_batch: 12", 5)):
        path = config(tmp_path, model(), files, "triplets", extra=", dropout: 0", data=data,
                      train=f"steps: 5, eval_every: 5, lr: 1e-3, batch_size: {rows}")
        path.write_text(path.read_text().replace("batch_size: 8, ", ""))
        run("finetune", path, "--run", tmp_path / name)
    assert difference(tmp_path / "whole", tmp_path / "pieces") < 1e-5


@pytest.mark.parametrize("form, data, score", [("pairs", "negatives_batch: 11", "mrr@10"),
                                               ("triplets", "both_directions: true", "accuracy"),
                                               ("scored", "negatives_batch: 7", "spearman"),
                                               ("scored", "loss: cosine, score_range: [0, 5]", "spearman")])
def test_two_processes_are_one(form, data, score, program, run, model, files, tmp_path):
    path = config(tmp_path, model(), files, form, extra=", dropout: 0", data=data,
                  train="steps: 6, accumulate: 2, eval_every: 3, lr: 1e-3")
    run("finetune", path, "--run", tmp_path / "alone")
    together(program, 2, "finetune", path, "--run", tmp_path / "both")
    assert difference(tmp_path / "alone", tmp_path / "both") < 1e-5
    assert result(tmp_path / "alone")["best"][score] == pytest.approx(result(tmp_path / "both")["best"][score],
        abs=1e-6)


def test_a_run_goes_on_with_the_same_bits(run, model, files, tmp_path):
    path = config(tmp_path, model(), files, "scored", data="negatives_batch: 10",
                  train="steps: 8, eval_every: 2, lr: 1e-3, keep_checkpoints: 9, save_every: 1, early_stopping: 9")
    run("finetune", path, "--run", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut/checkpoints").iterdir())
    assert len(checkpoints) == 8
    for late in checkpoints[3:]:
        shutil.rmtree(late)
    for name in ("result.json", "last.safetensors", "adapter.safetensors"):
        (tmp_path / "cut" / name).unlink()
    run("finetune", "--run", tmp_path / "cut", "--resume")
    for name in ("last.safetensors", "adapter.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_training_stops_early_and_methods_can_be_compared(run, model, files, tmp_path):
    run("finetune", config(tmp_path, model(), files, "scored",
                           train="steps: 60, eval_every: 1, lr: 1e-7, early_stopping: 2"), "--run", tmp_path / "run")
    assert result(tmp_path / "run")["stopped_early"] and result(tmp_path / "run")["metric"] == "spearman"
    path = config(tmp_path, model(), files, "scored", train="steps: 2", more="""compare:
  seeds: [1, 2]
  methods:
    - {name: LoRA, adapter: {method: lora, rank: 2}, lr: [1e-3]}
    - {name: Deep LoRA, adapter: {method: deep-lora, rank: 2}, lr: [1e-3]}
""")
    path.write_text(path.read_text().replace("adapter: {method: lora, rank: 2}\ntrain", "train").replace(", seed: 5",
        "").replace("data: {", f"data: {{test: {files['scored', 'dev']}, "))
    assert "spearman" in run("compare", path, "--run", tmp_path / "compared").stdout


def test_the_task_is_guessed_from_pairs(run, model, files, tmp_path):
    said = run("finetune", "--model", model(), "--train", files["pairs", "train"], "--steps", 1, "--run",
               tmp_path / "run").stderr
    assert "task: embedding" in said


def read_back(run, form, out, archive, files):
    """Vectors of what a form wrote, read by this program again."""
    if form == "peft" or (form == "safetensors" and out.is_dir()):
        model, adapter = (archive, f"path: {out}") if form == "peft" else (out, "method: lora, rank: 1")
        again = out.parent / f"again-{form}"
        run("finetune", config(out.parent, model, files, "pairs", adapter=adapter, train="steps: 0"), "--run", again)
        out = again
    return vectors(run, out, files["pairs", "dev"])


@pytest.mark.parametrize("kind", ["pt", "pt2"])
def test_every_method_trains_and_every_form_reads_back_or_is_refused(kind, run, archive, files, tmp_path):
    methods = words_behind(run("reference", "config").stdout, r"`adapter.method` \|[^|]*\|[^|]*\| one of ([\w, -]+)")
    assert {"none", "full", "lora", "deep-lora", "dora"} <= set(methods)
    other = {"pt": ("pt2", "no exported program"), "pt2": ("torchscript", "is no TorchScript")}[kind]
    for method in methods:
        folder = tmp_path / method
        folder.mkdir()
        adapter = f"method: {method}" + ("" if method in ("none", "full") else ", rank: 2")
        run("finetune", config(folder, archive(kind), files, "pairs", adapter=adapter, train="steps: 0" if method
                               == "none" else "steps: 3, lr: 1e-2"), "--run", folder / "run")
        found = vectors(run, folder / "run", files["pairs", "dev"])
        for form, name in (("torchscript", "merged.pt"), ("pt2", "merged.pt2"), ("safetensors", "folder"),
                           ("peft", "peft"), ("sentence-transformers", "sentences")):
            refusal = other[1] if form == other[0] else "no adapters" if form == "peft" and method in ("none",
                "full") else ""
            said = run("export", folder / "run", "--to", form, "--output", folder / name, code=1 if refusal
                       else 0).stderr
            assert refusal in said and (folder / name).exists() == (not refusal), (method, form, said)
            if not refusal:
                again = read_back(run, form, folder / name, archive(kind), files)
                assert (again - found).abs().max() < 1e-5, (method, form)
        said = run("export", folder / "run", "--to", "gguf", "--output", folder / "x.gguf", code=1).stderr
        assert "error: " in said and not (folder / "x.gguf").exists()


@pytest.mark.parametrize("pooling, normalize", [("mean", True), ("cls", False), ("max", True), ("last", False)])
def test_a_merged_program_gives_the_vectors(pooling, normalize, run, model, archive, files, tmp_path):
    from transformers import AutoTokenizer

    folder = model("bert", pooling, normalize)
    run("finetune", config(tmp_path, archive("pt2", pooling, normalize), files, "triplets"), "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "pt2", "--output", tmp_path / "merged.pt2")
    found = vectors(run, tmp_path / "run", files["triplets", "dev"])
    (texts,) = texts_of(files["triplets", "dev"])
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    module = torch.export.load(tmp_path / "merged.pt2").module()
    with torch.no_grad():
        out = module(**{name: value for name, value in inputs.items()})
    assert out.shape == found.shape and (out - found).abs().max() < 1e-5 * max(1, found.abs().max().item())
    said = run("finetune", config(tmp_path, tmp_path / "merged.pt2", files, "pairs"), "--run", tmp_path / "on").stderr
    assert "vectors: the model's own" in said
