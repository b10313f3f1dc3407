#!/usr/bin/env python3
"""Makes tiny random Hugging Face folders with a real tokenizer each, for tests. Nothing is downloaded.

  make_tiny_models.py OUT_DIR              every model below OUT_DIR/<name>
  make_tiny_models.py OUT_DIR bert gpt2    only these
  make_tiny_models.py --list               the names

Every model has 2 layers, 4 heads and a width of 32. Weights are larger and biases less zero than a fresh
initialisation gives, so that a wrong mask, position or bias shows in the outputs. The seed is fixed.
"""
from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tiny_tokenizers import (
    BERT_SPECIALS, MPNET_SPECIALS, POSITIONS, ROBERTA_TOKENS, SEED, albert_tokenizer, byte_bpe, deberta_tokenizer,
    gemma_tokenizer, llama_tokenizer, marian_tokenizer, t5_tokenizer, wordpiece)

LAYERS, HEADS, WIDTH, INNER = 2, 4, 32, 64

# ---- arguments of a model's configuration, from its tokenizer's ids ----


def encoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                intermediate_size=INNER, max_position_embeddings=POSITIONS, pad_token_id=t["pad"],
                initializer_range=0.1)


def decoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                intermediate_size=INNER, max_position_embeddings=POSITIONS, initializer_range=0.1,
                bos_token_id=t.get("bos"), eos_token_id=t["eos"], pad_token_id=t.get("pad"))


def encoder_decoder_sizes(t: dict) -> dict:
    return dict(vocab_size=t["size"], d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
                encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=INNER,
                decoder_ffn_dim=INNER, max_position_embeddings=POSITIONS, pad_token_id=t["pad"],
                eos_token_id=t["eos"], init_std=0.1)


def bert_wordpiece(folder: str) -> dict:
    return wordpiece(folder, BERT_SPECIALS, "BertTokenizer")


def roberta_bpe(folder: str) -> dict:
    return byte_bpe(folder, ROBERTA_TOKENS, "RobertaTokenizer", "pair")


def gpt2_bpe(folder: str, tokenizer_class: str = "GPT2Tokenizer") -> dict:
    ids = byte_bpe(folder, ["<|endoftext|>"], tokenizer_class)
    return {"bos": ids["eos"], **ids}


THREE_LABELS = dict(id2label={0: "negative", 1: "neutral", 2: "positive"},
                    label2id={"negative": 0, "neutral": 1, "positive": 2})

# name -> (class, tokenizer(folder) -> ids, ids -> arguments of the configuration)
MODELS = {
    "bert": ("BertModel", bert_wordpiece, encoder_sizes),
    "bert-classifier": ("BertForSequenceClassification", bert_wordpiece,
                        lambda t: dict(encoder_sizes(t), **THREE_LABELS)),
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
    "modernbert": ("ModernBertModel", lambda folder: wordpiece(folder, BERT_SPECIALS, "PreTrainedTokenizerFast"),
                   lambda t: dict(
        encoder_sizes(t), local_attention=8, global_attn_every_n_layers=2, bos_token_id=t["cls"], cls_token_id=t["cls"],
        eos_token_id=t["sep"],
        sep_token_id=t["sep"])),
    "gpt2": ("GPT2LMHeadModel", gpt2_bpe, lambda t: dict(
        vocab_size=t["size"], n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS,
        initializer_range=0.1, bos_token_id=t["bos"], eos_token_id=t["eos"])),
    "llama": ("LlamaForCausalLM", llama_tokenizer, lambda t: dict(decoder_sizes(t), num_key_value_heads=2)),
    "qwen2": ("Qwen2ForCausalLM", lambda folder: byte_bpe(folder, ["<|endoftext|>"], "Qwen2Tokenizer"),
              lambda t: dict(decoder_sizes(t), num_key_value_heads=2, tie_word_embeddings=True)),
    "mistral": ("MistralForCausalLM", llama_tokenizer,
                lambda t: dict(decoder_sizes(t), num_key_value_heads=2, sliding_window=6)),
    "gemma": ("GemmaForCausalLM", gemma_tokenizer,
              lambda t: dict(decoder_sizes(t), num_key_value_heads=1, head_dim=16)),
    "phi": ("PhiForCausalLM", gpt2_bpe, lambda t: dict(decoder_sizes(t), partial_rotary_factor=0.5)),
    "opt": ("OPTForCausalLM",
            lambda folder: byte_bpe(folder, ["<s>", "<pad>", "</s>", "<unk>"], "GPT2Tokenizer", "</s> $A"),
            lambda t: dict(vocab_size=t["size"], hidden_size=WIDTH, word_embed_proj_dim=WIDTH, ffn_dim=INNER,
                           num_hidden_layers=LAYERS, num_attention_heads=HEADS, max_position_embeddings=POSITIONS,
                           init_std=0.1, bos_token_id=t["eos"], eos_token_id=t["eos"], pad_token_id=t["pad"])),
    "gpt-neox": ("GPTNeoXForCausalLM", lambda folder: gpt2_bpe(folder, "GPTNeoXTokenizer"), decoder_sizes),
    "t5": ("T5ForConditionalGeneration", t5_tokenizer, lambda t: dict(
        vocab_size=t["size"], d_model=WIDTH, d_kv=8, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS,
        pad_token_id=t["pad"], relative_attention_num_buckets=8, relative_attention_max_distance=16,
        eos_token_id=t["eos"], decoder_start_token_id=t["pad"],
        feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "bart": ("BartForConditionalGeneration", roberta_bpe, lambda t: dict(
        encoder_decoder_sizes(t), bos_token_id=t["bos"], decoder_start_token_id=t["eos"],
        forced_eos_token_id=t["eos"])),
    "marian": ("MarianMTModel", marian_tokenizer, lambda t: dict(
        encoder_decoder_sizes(t), decoder_start_token_id=t["pad"], forced_eos_token_id=t["eos"],
        decoder_vocab_size=t["size"], bos_token_id=t["eos"], scale_embedding=True)),
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
