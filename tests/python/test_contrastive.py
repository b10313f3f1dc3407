"""Few-shot classification in pairs. Oracles: scikit-learn's LogisticRegression on the vectors of transformers, and a
step of sentence-transformers' loss."""
from __future__ import annotations

import json
import random
import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file
from test_distributed import together
from test_finetune import WORDS, result

ANSWERS = {"good": "good fine great nice happy".split(), "bad": "bad awful poor sad broken".split(),
           "none": "red blue big small old".split()}


def write(path, count, seed, labels=("good", "bad", "none")):
    rng = random.Random(seed)
    rows = [{"text": " ".join([rng.choice(WORDS)] + rng.sample(ANSWERS[label], 3)), "label": label} for label in labels
            for _ in range(count)]
    rng.shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(tmp_path, folder, adapter="method: lora, rank: 2", train="epochs: 1, eval_every: 5, lr: 1e-2",
           labels=("good", "bad", "none"), more=""):
    files = {split: write(tmp_path / f"{split}.jsonl", count, seed, labels) for split, count, seed in (("train", 6, 1),
        ("dev", 7, 2), ("test", 9, 3))}
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{path: {folder}, pooling: mean}}\ndata: {{task: classification, train: {files['train']}, "
                    f"dev: {files['dev']}, test: {files['test']}, max_length: 24}}\n"
                    f"adapter: {{{adapter}}}\ntrain: {{contrastive: true, batch_size: 8, seed: 5, {train}}}\n{more}")
    return path


def pooled(folder, texts, normalize=False):
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model(**inputs)[0]
    keep = inputs["attention_mask"].unsqueeze(-1)
    vectors = (hidden * keep).sum(1) / keep.sum(1)
    return (torch.nn.functional.normalize(vectors) if normalize else vectors).double()


@pytest.mark.parametrize("adapter", ["method: lora, rank: 2", "method: deep-lora, rank: 2", "method: full",
                                     "method: none"])
@pytest.mark.parametrize("labels", [("good", "bad", "none"), ("good", "bad")])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_head_is_scikit_learns_on_the_tuned_vectors(normalize, adapter, labels, run, tiny_folder, tmp_path):
    from sklearn.linear_model import LogisticRegression

    folder = shutil.copytree(tiny_folder("bert"), tmp_path / "model")
    if normalize:  # as the files of many sentence encoders say
        (folder / "modules.json").write_text(json.dumps([{"idx": i, "name": str(i), "path": "",
                                                          "type": f"sentence_transformers.models.{kind}"}
                                                         for i, kind in enumerate(("Transformer", "Pooling",
                                                             "Normalize"))]))
    said = run("finetune", config(tmp_path, folder, adapter, labels=labels), "--run", tmp_path / "run").stderr
    assert ("of length 1" if normalize else "not normalised") in said
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    head = {name: value.double() for name, value in load_file(tmp_path / "out/head.safetensors").items()}
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    vectors = pooled(tmp_path / "out", [row["text"] for row in rows], normalize)
    peer = LogisticRegression(tol=1e-10, max_iter=10000).fit(vectors.numpy(), [row["label"] for row in rows])
    scale = max(1.0, numpy.abs(peer.coef_).max())
    ours = (head["weight"] if len(labels) > 2 else head["weight"][1:] - head["weight"][:1]).numpy()
    assert numpy.abs(ours - peer.coef_).max() < 1e-4 * scale
    test = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    expected = peer.predict_proba(pooled(tmp_path / "out", [row["text"] for row in test], normalize).numpy())
    found = [json.loads(line)["probabilities"] for line in run("predict", tmp_path / "run", "--input",
                                                               tmp_path / "test.jsonl").stdout.splitlines()]
    assert numpy.abs(numpy.array(found) - expected).max() < 1e-4
    accuracy = numpy.mean([peer.classes_[p.argmax()] == row["label"] for p, row in zip(expected, test)])
    assert result(tmp_path / "run")["test"]["accuracy"] == pytest.approx(accuracy)
    # the encoder is tuned, but where there is nothing to tune it with
    moved = (pooled(tiny_folder("bert"), ["good nice"]) - pooled(tmp_path / "out", ["good nice"])).abs().max().item()
    assert (moved == 0) if "none" in adapter else (moved > 1e-4)


def test_a_step_is_one_of_cosine_similarity_loss(run, tiny_folder, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    path = config(tmp_path, tiny_folder("bert"), "method: full",
                  "steps: 1, optimizer: sgd, momentum: 0, lr: 0.5, clip: 0, schedule: constant, keep: last",
                  labels=("good", "bad"))
    path.write_text(path.read_text().replace("batch_size: 8", "batch_size: 500").replace("pooling: mean",
        "pooling: mean, dropout: 0"))
    run("finetune", path, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--to", "safetensors", "--output", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[i:]]
    same, other = ([p for p in pairs if (p[0]["label"] == p[1]["label"]) == alike] for alike in (True, False))
    assert len(same) == 42 and len(other) == 36
    pairs = same + other + other[:6]  # the fewer ones are repeated from the first
    model, tokenizer = AutoModel.from_pretrained(tiny_folder("bert")).eval(), AutoTokenizer.from_pretrained(
        tiny_folder("bert"))

    def embed(side):
        inputs = tokenizer([pair[side]["text"] for pair in pairs], padding=True, return_tensors="pt")
        keep = inputs["attention_mask"].unsqueeze(-1)
        return (model(**inputs)[0] * keep).sum(1) / keep.sum(1)

    target = torch.tensor([float(a["label"] == b["label"]) for a, b in pairs])
    torch.nn.functional.mse_loss(torch.cosine_similarity(embed(0), embed(1)), target).backward()
    after = load_file(tmp_path / "out/model.safetensors")
    for name, value in model.named_parameters():
        if value.grad is not None:
            step = (value.detach() - after[name if name in after else "bert." + name]) / 0.5
            assert (step - value.grad).abs().max() < 1e-5 * max(1, value.grad.abs().max().item()), name


def test_it_goes_on_with_the_same_bits_and_compares_beside_plain_training(run, tiny_folder, tmp_path):
    path = config(tmp_path, tiny_folder("bert"),
                  train="epochs: 1, eval_every: 3, save_every: 3, keep_checkpoints: 20, lr: 1e-3")
    run("finetune", path, "--run", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut/checkpoints").iterdir())
    for late in checkpoints[2:]:
        shutil.rmtree(late)
    (tmp_path / "cut/result.json").unlink()
    run("finetune", "--run", tmp_path / "cut", "--resume")
    for name in ("adapter.safetensors", "last.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    path = config(tmp_path, tiny_folder("bert"), train="steps: 4", more="""compare:
  seeds: [1, 2]
  methods:
    - {name: pairs, adapter: {method: lora, rank: 2}, lr: [1e-3]}
    - {name: plain, adapter: {method: lora, rank: 2}, train: {contrastive: false}, lr: [1e-3]}
    - {name: head, adapter: {method: none}, lr: [1e-3]}
""")
    path.write_text(path.read_text().replace("adapter: {method: lora, rank: 2}\ntrain", "train").replace(", seed: 5",
        ""))
    said = run("compare", path, "--run", tmp_path / "compared").stdout
    assert all(name in said for name in ("pairs", "plain", "head"))


def test_what_does_not_go_with_it_is_refused(run, tiny_folder, tiny_archive, tmp_path):
    path = config(tmp_path, tiny_folder("bert"))
    for setting, word in (("data.task=regression", "tell classes apart"), ("train.lr=auto", "train.lr"),
                          ("data.class_weights=balanced", "class_weights"),
                          ("head.type=huggingface", "linear head"),
                          (f"model.path={tiny_archive('bert', 'classifier', 3)}", "head of its own")):
        said = run("finetune", path, "--set", setting, "--run", tmp_path / "run", code=1).stderr
        assert word in said, said
    assert not (tmp_path / "run").exists()


def classes(run, place, rows):
    return torch.tensor([json.loads(line)["logits"] for line in run("predict", place, "--input",
        rows).stdout.splitlines()], dtype=torch.float64)


@pytest.mark.parametrize("adapter", ["method: lora, rank: 2", "method: deep-lora, rank: 2", "method: full",
                                     "method: none"])
def test_backends_processes_and_exports_agree(adapter, program, run, tiny_folder, tmp_path):
    import export_torchscript

    archive = tmp_path / "model.pt"
    export_torchscript.export(str(tiny_folder("bert")), str(archive), "encoder", None)
    path = config(tmp_path, archive, adapter, train="epochs: 1, eval_every: 9, lr: 1e-3, keep: last")
    path.write_text(path.read_text().replace("pooling: mean", "pooling: mean, dropout: 0"))
    run("finetune", path, "--run", tmp_path / "native")
    found, test = classes(run, tmp_path / "native", tmp_path / "test.jsonl"), tmp_path / "test.jsonl"
    run("finetune", path, "--set", "model.backend=graph", "--run", tmp_path / "graph")
    together(program, 2, "finetune", path, "--run", tmp_path / "both")
    for other in ("graph", "both"):
        assert (classes(run, tmp_path / other, test) - found).abs().max() < 2e-3 * max(1,
            found.abs().max().item()), other
    for form, name in (("torchscript", "merged.pt"), ("sentence-transformers", "sentences")):
        run("export", tmp_path / "native", "--to", form, "--output", tmp_path / name)
    assert (classes(run, tmp_path / "merged.pt", test) - found).abs().max() < 1e-4
    from sentence_transformers import SentenceTransformer

    texts = [json.loads(line)["text"] for line in test.read_text().splitlines()]
    encoded = torch.tensor(SentenceTransformer(str(tmp_path / "sentences"), device="cpu").encode(texts),
                           dtype=torch.float64)
    assert (encoded - found).abs().max() < 1e-4
