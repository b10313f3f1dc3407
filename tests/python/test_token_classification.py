"""Tags of words. Oracles: transformers' ...ForTokenClassification (one text at a time, so that no padding can play a
part), its encoding of words (is_split_into_words), PEFT, seqeval and the tokenizers library."""
from __future__ import annotations

import json
import random
import shutil
import sys

import numpy
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import AutoModelForTokenClassification, AutoTokenizer

import make_entity_rows
from test_class_heads import HEADS, model_of, pretrained
from test_distributed import together

sys.path.insert(0, str(make_entity_rows.Path(__file__).resolve().parents[1] / "support"))
from hard_texts import HARD_TEXTS, mark_texts, random_texts  # noqa: E402

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-DATE", "I-DATE"]  # not in the order of the alphabet
ENCODERS = ["bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert"]
DECODERS = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2"]
SIZES = {"train": 64, "dev": 24, "test": 24}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_entity_rows.write(tmp_path_factory.mktemp("entities"), sizes=SIZES)


@pytest.fixture(scope="module")
def tagger(minilm_folder, tmp_path_factory):
    """tagger("bert"): the folder of a tiny model of that family with a head for tokens and a tokenizer of WordPiece."""
    root = tmp_path_factory.mktemp("taggers")

    def folder(name, labels=tuple(TAGS), suffix="ForTokenClassification"):
        path = root / f"{name}-{len(labels)}-{suffix}"
        if not path.exists():
            names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i,
                label in enumerate(labels)}} if "Token" in suffix else {}
            model_of(name, suffix, vocab_size=30522, pad_token_id=0, max_position_embeddings=80,
                     **names).save_pretrained(path)
            for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
                shutil.copy(minilm_folder / file, path / file)
            if name in DECODERS:  # GPT-2 adds words for token types
                settings = json.loads((path / "tokenizer_config.json").read_text())
                (path / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": ["input_ids",
                    "attention_mask"]}))
        return path
    return folder


@pytest.fixture(scope="module")
def archive(tagger, tmp_path_factory):
    """archive("encoder", "pt"): the tagger BERT as an archive or a program."""
    import export_torchscript
    root = tmp_path_factory.mktemp("archives")

    def make(kind, ending):
        path = root / f"{kind}.{ending}"
        if not path.exists():
            export_torchscript.export(str(tagger("bert")), str(path), kind)
        return path
    return make


@pytest.fixture(scope="module")
def train(run, files, tagger, tmp_path_factory):
    def call(*sets, model=None, folder=None, code=0, data=None, steps=6):
        folder = folder or tmp_path_factory.mktemp("run") / "run"
        data = data or files
        done = run("finetune", "--model", model or tagger("bert"), "--task", "token-classification",
                   *[f"--{split}={path}" for split, path in data.items()], "--steps", steps, "--run", folder,
                   *[part for one in ("data.max_length=64", "train.batch_size=8", "train.eval_every=3", "train.lr=1e-2",
                                      "model.dropout=0", "head.dropout=0", *sets) for part in ("--set", one)],
                   code=code)
        return folder if code == 0 else done.stderr
    return call


@pytest.fixture(scope="module")
def trained(train):
    return train()


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def predictions(run, place, file, *more):
    return [json.loads(line) for line in run("predict", place, "--input", file, *more).stdout.split("\n") if line]


def tokenizer_of(name, folder):
    """WordPiece whatever the model: AutoTokenizer would read Qwen 2's own from the file."""
    return (transformers.BertTokenizerFast if name in DECODERS else AutoTokenizer).from_pretrained(folder)


def logits_of(model, tokenizer, tokens):
    """Logits [words, C] of the first pieces, by transformers' own alignment."""
    encoded = tokenizer(tokens, is_split_into_words=True, return_tensors="pt")
    firsts = {}
    for cell, word in enumerate(encoded.word_ids()):
        if word is not None:
            firsts.setdefault(word, cell)
    assert len(firsts) == len(tokens)
    with torch.no_grad():
        found = model(**{name: value for name, value in encoded.items()})
    logits = (found if torch.is_tensor(found) else found.logits)[0]
    return logits[list(firsts.values())].double()


def same(run, place, model, tokenizer, file, labels, tmp_path, tolerance=1e-5):
    """Every tag, every score of an entity and every row's loss as `model` has them; its logits' largest difference is
    seen through the loss."""
    out = tmp_path / "rows.jsonl"
    run("evaluate", place, "--data", file, "--output", out)
    found, losses, rows = predictions(run, place, file), read(out), read(file)
    assert len(found) == len(losses) == len(rows)
    for one, scored, row in zip(found, losses, rows):
        logits = logits_of(model, tokenizer, row["tokens"])
        assert one["tags"] == [labels[i] for i in logits.argmax(1)] == scored["prediction"]
        expected = torch.nn.functional.cross_entropy(logits,
                                                     torch.tensor([labels.index(tag) for tag in row["tags"]])).item()
        assert scored["loss"] == pytest.approx(expected, abs=tolerance)
        assert scored["label"] == row["tags"]
        probabilities, place_of = logits.softmax(1).max(1).values, 0
        for entity in one["entities"]:
            text = " ".join(row["tokens"])
            assert text[entity["start"]:entity["end"]] == entity["text"]
            begin = len(text[:entity["start"]].split())
            words = len(entity["text"].split())
            assert entity["score"] == pytest.approx(probabilities[begin:begin + words].mean().item(), abs=tolerance)
            assert begin >= place_of
            place_of = begin + words


@pytest.mark.parametrize("name", ENCODERS + DECODERS)
def test_a_trained_folder_scores_as_transformers_scores_it(name, run, tagger, files, tmp_path):
    folder = tagger(name)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    same(run, folder, model, tokenizer_of(name, folder), files["test"], TAGS, tmp_path)


@pytest.mark.parametrize("name", ENCODERS + ["gpt2", "llama", "qwen2"])
def test_a_run_with_the_familys_head_opens_in_transformers_and_peft(name, run, train, tagger, files, tmp_path):
    base = tagger(name, suffix=HEADS[name][2])
    folder = train("adapter.rank=2", "head.type=huggingface", model=base)
    labels = json.loads((folder / "task.json").read_text())["state"]["labels"]
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    model, report = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    assert [model.config.id2label[i] for i in range(len(labels))] == labels == sorted(TAGS)
    tokenizer = tokenizer_of(name, tmp_path / "merged")
    same(run, folder, model.eval(), tokenizer, files["test"], labels, tmp_path)
    same(run, tmp_path / "merged", model.eval(), tokenizer, files["test"], labels, tmp_path)
    run("export", folder, "--to", "peft", "--output", tmp_path / "peft")
    settings = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert settings["task_type"] == "TOKEN_CLS" and settings["modules_to_save"]
    from peft import PeftModel
    plain = AutoModelForTokenClassification.from_pretrained(base, num_labels=len(labels))
    same(run, folder, PeftModel.from_pretrained(plain, tmp_path / "peft").eval(), tokenizer, files["test"], labels,
         tmp_path)


def test_models_without_a_head_for_tokens_say_so(train, tagger, tmp_path):
    pretrained("gemma3_text", tmp_path / "gemma", "base")
    pretrained("t5", tmp_path / "t5", "pretrained")
    for name in ("gemma", "t5"):
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copy(tagger("bert") / file, tmp_path / name / file)
    assert "a model of type gemma3_text has no head for classifying tokens here; set head.type: linear" in train(
        "head.type=huggingface", model=tmp_path / "gemma", code=1)
    assert "an encoder with a decoder gives no state of every word" in train(model=tmp_path / "t5", code=1)


def test_ids_of_later_windows_have_places_in_the_models_table(run, train, tagger, tmp_path):
    small = tmp_path / "small"
    model_of("bert", "ForTokenClassification", vocab_size=5000, pad_token_id=0, max_position_embeddings=80,
             id2label=dict(enumerate(TAGS))).save_pretrained(small)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tagger("bert") / file, small / file)
    path = tmp_path / "rows.jsonl"
    rows = [{"tokens": ["the"] * 40, "tags": ["O"] * 40} for _ in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train("data.max_length=16", model=small, data={"train": path, "dev": path}, steps=1)
    rows[2]["tokens"][37] = "zebra"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [train("data.max_length=16", model=small, data={"train": path, "dev": path}, code=1),
            run("predict", folder, "--input", path, code=1).stderr,
            run("evaluate", folder, "--data", path, code=1).stderr]
    for one in said:
        assert "rows.jsonl:3: input_ids: 29145 is beyond the model's vocabulary of 5000" in one, one


@pytest.mark.parametrize("kind", ["encoder", "token-classifier"])
@pytest.mark.parametrize("backend", ["native", "graph"])
def test_archives_train_by_both_backends_and_their_exports_give_logits_of_every_token(backend, kind, run, train, tagger,
        archive, files, tmp_path):
    folder = train("adapter.rank=2", f"model.backend={backend}", model=archive(kind, "pt"))
    labels = json.loads((folder / "task.json").read_text())["state"]["labels"]
    assert labels == (sorted(TAGS) if kind == "encoder" else TAGS)
    run("export", folder, "--to", "torchscript", "--output", tmp_path / "merged.pt")
    merged, tokenizer = torch.jit.load(str(tmp_path / "merged.pt")), AutoTokenizer.from_pretrained(tagger("bert"))
    assert merged(**tokenizer("Anna went home", return_tensors="pt")).shape[1:] == (5, len(TAGS))
    for place in (folder, tmp_path / "merged.pt"):
        same(run, place, merged, tokenizer, files["test"], labels, tmp_path)
    # its head is one of its own now
    again = train("adapter.rank=2", f"model.backend={backend}", "train.lr=1e-9", model=tmp_path / "merged.pt", steps=1)
    same(run, again, merged, tokenizer, files["test"], labels, tmp_path, tolerance=1e-4)


def test_a_program_keeps_its_form(run, train, tagger, archive, files, tmp_path):
    folder = train("adapter.rank=2", model=archive("encoder", "pt2"))
    labels = json.loads((folder / "task.json").read_text())["state"]["labels"]
    run("export", folder, "--to", "pt2", "--output", tmp_path / "merged.pt2")
    program = torch.export.load(str(tmp_path / "merged.pt2")).module()
    same(run, folder, program, AutoTokenizer.from_pretrained(tagger("bert")), files["test"], labels, tmp_path)


@pytest.mark.parametrize("method", ["none", "full", "deep-lora", "dora"])
def test_methods_learn_and_a_linear_head_travels_beside_the_weights(method, run, train, tagger, files, tmp_path):
    folder = train(f"adapter.method={method}", "head.type=linear", steps=30)
    losses = [row["loss"] for row in read(folder / "metrics.jsonl") if "loss" in row]
    assert losses[-1] < losses[0]
    run("export", folder, "--to", "safetensors", "--output", tmp_path / "merged")
    head = load_file(tmp_path / "merged" / "head.safetensors")
    base = transformers.AutoModel.from_pretrained(tmp_path / "merged", add_pooling_layer=False).eval()

    def model(**inputs):
        return torch.nn.functional.linear(base(**inputs).last_hidden_state, head["weight"], head["bias"])

    labels = json.loads((folder / "task.json").read_text())["state"]["labels"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    same(run, folder, model, tokenizer, files["test"], labels, tmp_path)
    same(run, tmp_path / "merged", model, tokenizer, files["test"], labels, tmp_path)
    refused = run("export", folder, "--to", "sentence-transformers", "--output", tmp_path / "st", code=1).stderr
    assert "has a head on every token" in refused


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iobes", "bilou"])
def test_scores_are_seqevals_for_every_scheme(scheme, run, train, tagger, tmp_path):
    seqeval = pytest.importorskip("seqeval.metrics")
    from seqeval import scheme as schemes
    data = make_entity_rows.write(tmp_path / "rows", scheme, sizes={"train": 64, "dev": 24, "test": 60})
    folder = train("adapter.rank=2", "data.class_weights=balanced", model=tagger("bert", suffix="ForMaskedLM"),
                   data=data, steps=40)
    found, expected = [one["tags"] for one in predictions(run, folder, data["test"])], [row["tags"] for row
        in read(data["test"])]
    scores = json.loads(run("evaluate", folder, "--json").stdout)
    assert scores["tag_scheme"] == scheme and {tag for tags in found for tag in tags} != {"O"}
    for name, function in (("precision", seqeval.precision_score), ("recall", seqeval.recall_score),
                           ("f1", seqeval.f1_score)):
        assert scores[name] == pytest.approx(function(expected, found), abs=1e-12)
        assert scores["strict"][name] == pytest.approx(function(expected, found, mode="strict",
                                                                scheme=getattr(schemes, scheme.upper())), abs=1e-12)
    assert scores["strict_f1"] == scores["strict"]["f1"]
    assert scores["accuracy"] == pytest.approx(seqeval.accuracy_score(expected, found), abs=1e-12)
    report = seqeval.classification_report(expected, found, output_dict=True)
    for kind, one in scores["per_label"].items():
        assert [one[name] for name in ("precision", "recall", "f1", "support")] == pytest.approx([report[kind][name]
            for name in ("precision", "recall", "f1-score", "support")])
    result = json.loads((folder / "result.json").read_text())
    assert result["test"]["f1"] == pytest.approx(scores["f1"], abs=1e-12) and result["per_label"] == scores["per_label"]


def test_parts_of_speech_are_plain_tags(run, train, tagger, tmp_path):
    from sklearn.metrics import accuracy_score, f1_score
    data = make_entity_rows.write(tmp_path / "rows", sizes=SIZES)
    for path in data.values():
        rows = read(path)
        for row in rows:
            row["tags"] = ["NUM" if word[0].isdigit() else "PUNCT" if not word[0].isalnum() else "NAME"
                           if word[0].isupper() else "WORD" for word in row["tokens"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = tagger("bert", suffix="ForMaskedLM")
    folder = train(model=base, data=data, steps=20)
    found = [tag for one in predictions(run, folder, data["test"]) for tag in one["tags"]]
    expected = [tag for row in read(data["test"]) for tag in row["tags"]]
    scores = json.loads(run("evaluate", folder, "--json").stdout)
    assert list(scores)[0] == "accuracy" and scores["tag_scheme"] == "plain"
    assert scores["accuracy"] == pytest.approx(accuracy_score(expected, found))
    assert scores["macro_f1"] == pytest.approx(f1_score(expected, found, average="macro"))
    for label, one in scores["per_label"].items():
        assert one["f1"] == pytest.approx(f1_score(expected, found, labels=[label], average=None)[0]) and one[
            "support"] == expected.count(label)
    assert predictions(run, folder, data["test"])[0]["entities"] == []
    assert "one of entities, but the tags are plain" in train("data.metric=strict_f1", model=base, data=data, code=1)


def test_columns_and_lists_give_the_same_run(train, files, tmp_path):
    columns = make_entity_rows.write(tmp_path / "columns", conll=True, sizes=SIZES)
    text = columns["train"].read_text()
    columns["train"] = tmp_path / "train.txt"
    columns["train"].write_text("-DOCSTART- O\n\n" + "".join(line.replace(" ", " X ", 1) + "\n" for line
                                                             in text.splitlines()))
    for row in ("train", "dev"):
        assert columns[row].exists()
    lists, cut = train("adapter.rank=2", steps=3), train("adapter.rank=2", data={"train": columns["train"],
        "dev": files["dev"], "test": columns["test"]}, steps=3)
    assert (lists / "last.safetensors").read_bytes() == (cut / "last.safetensors").read_bytes()
    assert json.loads((lists / "result.json").read_text())["test"] == json.loads((cut / "result.json").read_text())[
        "test"]


def test_texts_are_cut_as_bert_cuts_them_and_places_point_at_the_text_as_it_was_given(tagger, run, tmp_path):
    place = tagger("bert")  # whose random head finds many
    texts = [text for text in HARD_TEXTS + random_texts(120) + mark_texts(60) if text.split() and "\x00" not
             in text] + ["Ｚｏë  met Ａnna\u3000in SÃO PAULO\u200b, on 3 May."]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    found = predictions(run, place, path)
    entities = 0
    for text, one in zip(texts, found, strict=True):
        cut = BertPreTokenizer().pre_tokenize_str(text)
        assert one["tokens"] == [word for word, _ in cut]
        assert len(one["tags"]) == len(cut)
        begins, ends = {begin for _, (begin, _) in cut}, {end for _, (_, end) in cut}
        for entity in one["entities"]:
            assert text[entity["start"]:entity["end"]] == entity["text"]
            assert entity["start"] in begins and entity["end"] in ends
            entities += 1
    assert entities > 20
    words = tmp_path / "words.jsonl"
    words.write_text("".join(json.dumps({"tokens": one["tokens"]}) + "\n" for one in found), "utf-8")
    assert [one["tags"] for one in predictions(run, place, words)] == [one["tags"] for one in found]
    for alone in (run("predict", place, "--text", texts[-1]), run("predict", place, "-", input=texts[-1] + "\n")):
        said = json.loads(alone.stdout)
        for one, other in zip(said.pop("entities"), found[-1]["entities"], strict=True):
            # sums over one row have another order than over many
            assert one.pop("score") == pytest.approx(other["score"], abs=1e-6)
            assert one == {key: value for key, value in other.items() if key != "score"}
        assert said == {key: value for key, value in found[-1].items() if key != "entities"}


def windows_by_hand(pieces, room):
    """Spans of words: as many as fit, the next one beginning with words of at most a quarter of the room."""
    spans, begin = [], 0
    while True:
        end, used = begin, 0
        while end < len(pieces) and used + pieces[end] <= room:
            used += pieces[end]
            end += 1
        spans.append((begin, end))
        if end == len(pieces):
            return spans
        new, shared = end, 0
        while new > begin + 1 and shared + pieces[new - 1] <= room // 4 and shared + pieces[new
                - 1] + pieces[end] <= room:
            new -= 1
            shared += pieces[new]
        begin = new


def test_long_rows_are_read_in_overlapping_windows_without_losing_or_doubling_an_entity(run, tagger, train, tmp_path):
    rng = random.Random(5)
    rows = [{"tokens": [], "tags": []} for _ in range(6)]
    for row, count in zip(rows, (1, 3, 7, 12, 20, 30)):
        for one in rng.sample(make_entity_rows.rows("test", size=60), count):
            row["tokens"] += one["tokens"]
            row["tags"] += one["tags"]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(model=tagger("bert"), data={"train": path, "dev": path}, steps=0)
    model, tokenizer, limit = AutoModelForTokenClassification.from_pretrained(
        tagger("bert")).eval(), AutoTokenizer.from_pretrained(tagger("bert")), 24
    out = tmp_path / "rows.jsonl"
    sets = ("--set", f"data.max_length={limit}")
    run("evaluate", folder, "--data", path, "--output", out, *sets)
    losses, found = read(out), predictions(run, folder, path, *sets)
    assert len(losses) == len(found) == len(rows)
    several = 0
    for row, scored, one in zip(rows, losses, found):
        pieces = [len(tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]) for word
                  in row["tokens"]]
        spans = windows_by_hand(pieces, limit - 2)
        several += len(spans) > 1
        best = [(-1, None)] * len(pieces)
        for begin, end in spans:
            logits = logits_of(model, tokenizer, row["tokens"][begin:end])
            for word in range(begin, end):
                left = float("inf") if begin == 0 else sum(pieces[begin:word])
                right = float("inf") if end == len(pieces) else sum(pieces[word + 1:end])
                if min(left, right) > best[word][0]:
                    best[word] = (min(left, right), logits[word - begin])
        logits = torch.stack([value for _, value in best])
        assert one["tags"] == [TAGS[i] for i in logits.argmax(1)] == scored["prediction"]
        assert scored["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits,
            torch.tensor([TAGS.index(tag) for tag in row["tags"]])).item(), abs=1e-5)
    assert several >= 4
    whole = json.loads(run("evaluate", folder, "--data", path, "--json", *sets).stdout)
    words = sum(len(row["tokens"]) for row in rows)
    assert whole["loss"] == pytest.approx(sum(one["loss"] * len(row["tokens"]) for one,
                                              row in zip(losses, rows)) / words, abs=1e-9)
    # In training each word's loss counts once, too: one step over all rows at a rate of nearly nothing has the loss
    # that evaluation finds.
    trained = train(f"data.max_length={limit}", "train.batch_size=512", "train.lr=1e-12", "train.log_every=1",
                    "adapter.rank=2", model=tagger("bert"), data={"train": path, "dev": path}, steps=1)
    first = [row["loss"] for row in read(trained / "metrics.jsonl") if "loss" in row][0]
    assert first == pytest.approx(whole["loss"], abs=1e-5)


def test_a_curve_of_lora_is_that_of_peft_and_transformers(run, tagger, files, tmp_path):
    from peft import LoraConfig, get_peft_model
    folder, rows = tagger("bert"), read(files["train"])
    torch.manual_seed(3)
    model = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager")
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"],
                                            task_type="TOKEN_CLS"))
    peft.save_pretrained(tmp_path / "start")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=5e-3, weight_decay=0.0)
    peft.eval()  # no dropout
    expected = []
    for step in range(20):
        batch = [rows[(step * 8 + i) % len(rows)] for i in range(8)]
        inputs = tokenizer([row["tokens"] for row in batch], is_split_into_words=True, padding=True,
                           return_tensors="pt")
        labels = torch.full_like(inputs["input_ids"], -100)
        for i, row in enumerate(batch):
            seen = set()
            for cell, word in enumerate(inputs.word_ids(i)):
                if word is not None and word not in seen:
                    seen.add(word)
                    labels[i, cell] = TAGS.index(row["tags"][word])
        loss = peft(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    path = tmp_path / "c.yaml"
    path.write_text(f"""model: {{path: {folder}, dropout: 0.0}}
data: {{task: token-classification, train: {files["train"]}, dev: {files["dev"]}}}
adapter: {{method: lora, path: {tmp_path / "start"}}}
train: {{steps: 20, batch_size: 8, lr: 5.0e-3, head_lr: 5.0e-3, schedule: constant, warmup: 0, weight_decay: 0.0,
        clip: 0, shuffle: false, log_every: 1, eval_every: 20}}
""")
    run("finetune", path, "--run", tmp_path / "run")
    found = [row["loss"] for row in read(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert len(found) == 20 and expected[-1] < expected[0] - 0.2
    assert numpy.abs(numpy.array(found) - expected).max() < 1e-4


def test_a_killed_run_ends_with_the_same_bits(train, run):
    whole, other = train("train.save_every=2", "data.max_length=12"), train("train.save_every=2", "data.max_length=12")
    for name in ("result.json", "last.safetensors", "adapter.safetensors"):
        (other / name).unlink()
    newest = max((other / "checkpoints").iterdir())
    shutil.rmtree(newest)
    run("finetune", "--run", other, "--resume")
    for name in ("last.safetensors", "adapter.safetensors"):
        assert (other / name).read_bytes() == (whole / name).read_bytes()


def test_accumulated_and_shared_steps_are_the_same_with_weights_and_windows(train, program, files, tagger, tmp_path):
    sets = ("data.class_weights=balanced", "data.max_length=12", "train.shuffle=false", "train.optimizer=sgd",
            "train.momentum=0", "adapter.rank=2")
    whole, cut = (load_file(train(*sets, "train.batch_size=" + size, "train.accumulate=" + times) / "last.safetensors")
                  for size, times in (("8", "1"), ("2", "4")))
    shared = tmp_path / "shared"
    together(program, 2, "finetune", "--model", tagger("bert"), "--task", "token-classification",
             *[f"--{k}={v}" for k, v in files.items()], "--steps", 6, "--run", shared,
             *[part for one in ("train.eval_every=3", "train.lr=1e-2", "train.batch_size=8", "model.dropout=0",
                                "head.dropout=0", *sets) for part in ("--set", one)])
    for other in (cut, load_file(shared / "last.safetensors")):
        assert max((whole[name] - other[name]).abs().max().item() for name in whole) < 1e-5
    scores = [json.loads((folder / "result.json").read_text())["test"] for folder
              in (shared, train(*sets, "train.batch_size=8"))]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_words_without_a_piece_are_outside(run, trained, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"tokens": ["Anna", "\u200b", "", "Berlin"], "tags": ["B-PER", "O", "O", "B-LOC"]})
                    + "\n" + json.dumps({"tokens": ["\u200b"], "tags": ["O"]}) + "\n")
    found = predictions(run, trained, path)
    assert found[0]["tags"][1:3] == ["O", "O"] and found[1] == {"entities": [], "tags": ["O"]}
    done = run("evaluate", trained, "--data", path, "--json")
    assert "3 of 5 words give no piece of the tokenizer" in done.stderr
    assert 0.6 <= json.loads(done.stdout)["accuracy"] <= 1


def test_the_file_tells_the_task(run, tagger, files, tmp_path):
    done = run("finetune", "--model", tagger("bert"), "--train", files["train"], "--steps", 1, "--run",
               tmp_path / "run", "--set", "data.max_length=64")
    assert "task: token-classification, since column tokens holds lists of words, column tags their tags" in done.stderr
    assert "tags (iob2) O " in done.stderr
    run("init", tagger("bert"), files["train"], "--output", tmp_path / "c.yaml")
    assert "task: token-classification" in (tmp_path / "c.yaml").read_text()


def test_tags_that_break_the_scheme_are_counted_or_refused(run, train, files, tmp_path):
    rows = read(files["train"])
    rows[3] = {"tokens": ["Anna", "went"], "tags": ["I-PER", "O"]}
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": path, "dev": files["dev"]}
    said = run("evaluate", train(data=data, steps=1), "--data", path).stderr
    assert ("1 of 64 rows break the tag scheme iob2, the first" in said
            and "broken.jsonl:4 (tag 1, 'I-PER', follows nothing)" in said)
    assert "broken.jsonl:4: tags: tag 1, 'I-PER', follows nothing; data.tag_scheme: iob2 forbids it" in train(
        "data.tag_scheme=iob2", data=data, code=1)


def test_minilm_learns_entities_in_a_short_run(run, minilm_folder, tmp_path):
    files = make_entity_rows.write(tmp_path / "rows")
    run("finetune", "--model", minilm_folder, *[f"--{split}={path}" for split, path in files.items()], "--epochs", 2,
        "--run", tmp_path / "run", "--set", "train.batch_size=16", "--set", "data.max_length=64", timeout=600)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"]["f1"] > 0.9, result["test"]
    found = json.loads(run("predict", tmp_path / "run", "--text",
                           "Yesterday Anna Brandt flew from São Paulo to Oslo.").stdout)
    assert {"label": "LOC", "text": "Oslo"}.items() <= found["entities"][-1].items()
