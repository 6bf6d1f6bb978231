"""Tokenizers that ComfyUI reads from a checkpoint's file, made small: of letters or few words."""

from __future__ import annotations

import io

import torch

WORDS = (
    "a an the of in on with and cat dog fox apple pear car photo picture drawing style flat ink red blue table animal"
)


def sentence_pieces() -> torch.Tensor:
    """A sentencepiece model as a checkpoint holds it, for Gemma 2 and UMT5."""
    import sentencepiece

    made = io.BytesIO()
    lines = [*WORDS.split(), WORDS, "abcdefghijklmnopqrstuvwxyz0123456789"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20),
        model_writer=made,
        vocab_size=110,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)


def letters(_) -> dict:
    """In place of Mistral's tekken file, for which the converter that ComfyUI calls is gone in newer transformers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<SPECIAL_{i}>" for i in range(5, 11)), "<pad>"]
    vocab = {piece: i for i, piece in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(piece, special=True) for piece in special])
    return {"tokenizer_object": made, "legacy": False}
