#!/usr/bin/env python3
"""Makes tiny random Hugging Face folders with a real tokenizer each, for tests: no download, same bytes for the same versions.

  make_tiny_models.py OUT_DIR              every model below OUT_DIR/<name>
  make_tiny_models.py OUT_DIR bert gpt2    only these
  make_tiny_models.py --list               the names

Every model has 2 layers, 4 heads and a width of 32. Weights are larger and biases less zero than a fresh initialisation gives, so
that a wrong mask, position or bias shows in the outputs.
"""
from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

LAYERS, HEADS, WIDTH, INNER, POSITIONS = 2, 4, 32, 64, 64
SEED = 20240611

WORDS = (
    "the a an of to in and is was for on with as by at from this that it not are be or have has one two three four "
    "good bad great poor small large quick slow red green blue white black old new happy sad bright dark warm cold "
    "cat dog bird horse man woman child boy girl tree river street house kitchen table window garden train car boat "
    "picture camera phone battery screen sound price quality product service food music film story book page letter "
    "runs walks sits stands eats sleeps reads writes plays looks works breaks costs sells buys takes gives makes sees "
    "running walking sitting standing reading writing playing looking working very really quite almost never always "
    "often near under over behind between before after until because however therefore although while when where who "
    "naïve café über señor 3.5 2024 100 42 e-mail don't it's"
).split()


def sentences(count: int = 1200) -> list[str]:
    """Random sentences over WORDS: enough text for the subword trainers, the same in every run."""
    source = random.Random(SEED)
    made = []
    for _ in range(count):
        words = [source.choice(WORDS) for _ in range(source.randint(4, 14))]
        if source.random() < 0.3:
            words[source.randrange(len(words))] += ","
        made.append(" ".join(words).capitalize() + source.choice(".!?."))
    return made


def write_json(folder: str, name: str, value) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False, indent=1)
        out.write("\n")


# ---- tokenizers: each writes its files into `folder` and returns {"size": V, "pad": id, ...} ----


def wordpiece(folder: str, specials: dict[str, str], tokenizer_class: str) -> dict:
    """A BERT vocabulary: special tokens, letters, ##letters, words and common endings; lower-casing as bert-base-uncased."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import TemplateProcessing

    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
    endings = ["##ing", "##ed", "##er", "##ly", "##est"]
    plain = [w.replace("ï", "i").replace("é", "e").replace("ü", "u").replace("ñ", "n") for w in WORDS]
    words = sorted({w for w in plain if w.isalpha()})
    vocabulary = list(specials.values()) + letters + ["##" + c for c in letters if c.isalnum()] + endings
    vocabulary += [w for w in words if len(w) > 1]
    ids = {token: i for i, token in enumerate(vocabulary)}
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as out:
        out.write("".join(token + "\n" for token in vocabulary))
    fast = BertWordPieceTokenizer(
        vocab=ids, lowercase=True, unk_token=specials["unk_token"], sep_token=specials["sep_token"],
        cls_token=specials["cls_token"], pad_token=specials["pad_token"], mask_token=specials["mask_token"])
    cls, sep = specials["cls_token"], specials["sep_token"]
    pair = f"{cls} $A {sep} $B:1 {sep}:1" if cls == "[CLS]" else f"{cls} $A {sep} {sep} $B {sep}"
    fast._tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=[(cls, ids[cls]), (sep, ids[sep])])
    fast.save(os.path.join(folder, "tokenizer.json"))
    write_json(folder, "special_tokens_map.json", specials)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": tokenizer_class, "do_lower_case": True, "model_max_length": POSITIONS, **specials})
    return {"size": len(ids), **{name.split("_")[0]: ids[token] for name, token in specials.items()}}


BERT_SPECIALS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
                 "mask_token": "[MASK]"}
MPNET_SPECIALS = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "[UNK]",
                  "mask_token": "<mask>", "bos_token": "<s>", "eos_token": "</s>"}


def byte_bpe(folder: str, specials: list[str], tokenizer_class: str, template: str = "") -> dict:
    """A byte-level BPE of 400 tokens. template: "" none, "pair" as RoBERTa, or a TemplateProcessing string."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    if tokenizer_class == "Qwen2Tokenizer":
        pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                   r"|\s+(?!\S)|\s+")
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sentences(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    ids = tokenizer.get_vocab()
    if template == "pair":
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False)
    elif template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(t, ids[t]) for t in specials if t in template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    tokenizer.model.save(folder)  # vocab.json, merges.txt
    names = {"<s>": "bos_token", "</s>": "eos_token", "<unk>": "unk_token", "<pad>": "pad_token", "<mask>": "mask_token",
             "<|endoftext|>": "eos_token"}
    named = {names[token]: token for token in specials}
    if template == "pair":
        named.update(cls_token="<s>", sep_token="</s>")
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": tokenizer_class, "model_max_length": POSITIONS, "add_prefix_space": False, **named})
    return {"size": len(ids), **{name.split("_")[0]: ids[token] for name, token in named.items()}}


ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def sentencepiece_bytes(model_type: str, size: int, **options) -> bytes:
    """A trained sentencepiece model."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=out, model_type=model_type, vocab_size=size,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    return out.getvalue()


def sentencepiece_files(folder: str, file_name: str, tokenizer_class: str, named: dict[str, str], model_type: str, size: int,
                        settings: dict | None = None, **options) -> dict:
    """One sentencepiece model as `file_name`; `named` maps pad_token, eos_token, ... to pieces."""
    import sentencepiece

    data = sentencepiece_bytes(model_type, size, **options)
    with open(os.path.join(folder, file_name), "wb") as out:
        out.write(data)
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": tokenizer_class, "model_max_length": POSITIONS, **(settings or {}), **named})
    return {"size": model.get_piece_size(), **{k.split("_")[0]: model.piece_to_id(v) for k, v in named.items()}}


def t5_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "spiece.model", "T5Tokenizer", {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "unigram", 320,
        settings={"extra_ids": 0}, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def albert_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "spiece.model", "AlbertTokenizer",
        {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
         "bos_token": "[CLS]", "eos_token": "[SEP]"}, "unigram", 320,
        settings={"do_lower_case": True, "remove_space": True, "keep_accents": False}, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
        control_symbols="[CLS],[SEP]", user_defined_symbols="[MASK]")


def deberta_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "spm.model", "DebertaV2Tokenizer",
        {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]"},
        "unigram", 320, settings={"do_lower_case": False}, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]",
        bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", user_defined_symbols="[MASK]")


def llama_tokenizer(folder: str, tokenizer_class: str = "LlamaTokenizer") -> dict:
    return sentencepiece_files(
        folder, "tokenizer.model", tokenizer_class, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "bpe", 480,
        settings={"add_bos_token": True, "add_eos_token": False, "legacy": False}, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        byte_fallback=True, normalization_rule_name="identity")


def gemma_tokenizer(folder: str) -> dict:
    return sentencepiece_files(
        folder, "tokenizer.model", "GemmaTokenizer",
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}, "bpe", 480,
        settings={"add_bos_token": True, "add_eos_token": False}, pad_id=0, eos_id=1, bos_id=2, unk_id=3, eos_piece="<eos>",
        bos_piece="<bos>", user_defined_symbols="<mask>", byte_fallback=True, normalization_rule_name="identity",
        add_dummy_prefix=False)


def marian_tokenizer(folder: str) -> dict:
    """Two sentencepiece models and one vocabulary over both, </s> first and <pad> last, as the published Marian folders have it."""
    import sentencepiece

    data = sentencepiece_bytes("unigram", 320, pad_id=-1, bos_id=-1, eos_id=0, unk_id=1)
    for name in ("source.spm", "target.spm"):
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    ids = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    ids["<pad>"] = len(ids)
    write_json(folder, "vocab.json", ids)
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_json(folder, "special_tokens_map.json", named)
    write_json(folder, "tokenizer_config.json",
               {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "en", "separate_vocabs": False,
                "model_max_length": POSITIONS, **named})
    return {"size": len(ids), "eos": 0, "unk": 1, "pad": ids["<pad>"]}


# ---- models: (class name, config class, tokenizer, keyword arguments of the config from the tokenizer's ids) ----


def encoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                intermediate_size=INNER, max_position_embeddings=POSITIONS, pad_token_id=t["pad"], initializer_range=0.1)


def decoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                intermediate_size=INNER, max_position_embeddings=POSITIONS, initializer_range=0.1, bos_token_id=t.get("bos"),
                eos_token_id=t["eos"], pad_token_id=t.get("pad"))


def encoder_decoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
                decoder_attention_heads=HEADS, encoder_ffn_dim=INNER, decoder_ffn_dim=INNER, max_position_embeddings=POSITIONS,
                pad_token_id=t["pad"], eos_token_id=t["eos"], init_std=0.1)


def bert_wordpiece(folder: str) -> dict:
    return wordpiece(folder, BERT_SPECIALS, "BertTokenizer")


def roberta_bpe(folder: str) -> dict:
    return byte_bpe(folder, ROBERTA_TOKENS, "RobertaTokenizer", "pair")


def gpt2_bpe(folder: str, tokenizer_class: str = "GPT2Tokenizer") -> dict:
    ids = byte_bpe(folder, ["<|endoftext|>"], tokenizer_class)
    return {"bos": ids["eos"], **ids}


THREE_LABELS = dict(id2label={0: "negative", 1: "neutral", 2: "positive"}, label2id={"negative": 0, "neutral": 1, "positive": 2})

MODELS = {
    "bert": ("BertModel", bert_wordpiece, encoder_sizes),
    "bert-classifier": ("BertForSequenceClassification", bert_wordpiece, lambda t: dict(encoder_sizes(t), **THREE_LABELS)),
    "roberta": ("RobertaModel", roberta_bpe, lambda t: dict(
        encoder_sizes(t), type_vocab_size=1, bos_token_id=t["bos"], eos_token_id=t["eos"],
        max_position_embeddings=POSITIONS + 2)),
    "distilbert": ("DistilBertModel",
                   lambda folder: wordpiece(folder, BERT_SPECIALS, "DistilBertTokenizer"),
                   lambda t: dict(vocab_size=t["size"], dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
                                  max_position_embeddings=POSITIONS, pad_token_id=t["pad"], initializer_range=0.1)),
    "electra": ("ElectraModel", lambda folder: wordpiece(folder, BERT_SPECIALS, "ElectraTokenizer"),
                lambda t: dict(encoder_sizes(t), embedding_size=16)),
    "albert": ("AlbertModel", albert_tokenizer, lambda t: dict(
        encoder_sizes(t), embedding_size=16, hidden_dropout_prob=0.1, bos_token_id=t["cls"], eos_token_id=t["sep"])),
    "mpnet": ("MPNetModel", lambda folder: wordpiece(folder, MPNET_SPECIALS, "MPNetTokenizer"),
              lambda t: dict(encoder_sizes(t), max_position_embeddings=POSITIONS + 2,
                             bos_token_id=t["bos"], eos_token_id=t["eos"])),
    "deberta-v2": ("DebertaV2Model", deberta_tokenizer, lambda t: dict(
        encoder_sizes(t), type_vocab_size=0, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"],
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False)),
    "gpt2": ("GPT2LMHeadModel", gpt2_bpe, lambda t: dict(
        vocab_size=t["size"], n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS, initializer_range=0.1,
        bos_token_id=t["bos"], eos_token_id=t["eos"])),
    "llama": ("LlamaForCausalLM", llama_tokenizer, lambda t: dict(decoder_sizes(t), num_key_value_heads=2)),
    "qwen2": ("Qwen2ForCausalLM", lambda folder: byte_bpe(folder, ["<|endoftext|>"], "Qwen2Tokenizer"),
              lambda t: dict(decoder_sizes(t), num_key_value_heads=2, tie_word_embeddings=True)),
    "mistral": ("MistralForCausalLM", llama_tokenizer,
                lambda t: dict(decoder_sizes(t), num_key_value_heads=2, sliding_window=6)),
    "gemma": ("GemmaForCausalLM", gemma_tokenizer, lambda t: dict(decoder_sizes(t), num_key_value_heads=1, head_dim=16)),
    "phi": ("PhiForCausalLM", gpt2_bpe, lambda t: dict(decoder_sizes(t), partial_rotary_factor=0.5)),
    "opt": ("OPTForCausalLM",
            lambda folder: byte_bpe(folder, ["<s>", "<pad>", "</s>", "<unk>"], "GPT2Tokenizer", "</s> $A"),
            lambda t: dict(vocab_size=t["size"], hidden_size=WIDTH, word_embed_proj_dim=WIDTH, ffn_dim=INNER,
                           num_hidden_layers=LAYERS, num_attention_heads=HEADS, max_position_embeddings=POSITIONS, init_std=0.1,
                           bos_token_id=t["eos"], eos_token_id=t["eos"], pad_token_id=t["pad"])),
    "gpt-neox": ("GPTNeoXForCausalLM", lambda folder: gpt2_bpe(folder, "GPTNeoXTokenizer"), decoder_sizes),
    "t5": ("T5ForConditionalGeneration", t5_tokenizer, lambda t: dict(
        vocab_size=t["size"], d_model=WIDTH, d_kv=8, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS, pad_token_id=t["pad"],
        relative_attention_num_buckets=8, relative_attention_max_distance=16, eos_token_id=t["eos"],
        decoder_start_token_id=t["pad"], feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "bart": ("BartForConditionalGeneration", roberta_bpe, lambda t: dict(
        encoder_decoder_sizes(t), bos_token_id=t["bos"], decoder_start_token_id=t["eos"], forced_eos_token_id=t["eos"])),
    "marian": ("MarianMTModel", marian_tokenizer, lambda t: dict(
        encoder_decoder_sizes(t), decoder_start_token_id=t["pad"], forced_eos_token_id=t["eos"], decoder_vocab_size=t["size"],
        bos_token_id=t["eos"], scale_embedding=True)),
}


def make(name: str, folder: str) -> None:
    """Writes model `name` and its tokenizer into `folder`."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    class_name, make_tokenizer, sizes = MODELS[name]
    os.makedirs(folder, exist_ok=True)
    model_class = getattr(transformers, class_name)
    config = model_class.config_class(**sizes(make_tokenizer(folder)))
    torch.manual_seed(SEED)
    model = model_class(config).eval()
    noise = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and norms: zeros and ones would hide a mistake
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    model.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", nargs="?", help="one folder a model is made below it")
    parser.add_argument("names", nargs="*", help="which models (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(MODELS))
        return 0
    if options.out_dir is None:
        parser.error("OUT_DIR is missing")
    unknown = [n for n in options.names if n not in MODELS]
    if unknown:
        print(f"error: no tiny model {', '.join(unknown)}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 1
    for name in options.names or MODELS:
        make(name, os.path.join(options.out_dir, name))
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
