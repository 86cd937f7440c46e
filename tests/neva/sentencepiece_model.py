"""A sentencepiece model like Llama 2's with NeVA's eight pieces, trained in a moment."""

from __future__ import annotations

import io
from functools import cache

import sentencepiece

EXTRA_IDS = tuple(f"<extra_id_{number}>" for number in range(8))
_TEXT = (
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "USER: Can you describe the scene? ASSISTANT: Hand with a robot arm",
    "a red car drives to the left, a hand opens the box",
)


@cache
def sentencepiece_model(user_defined: tuple[str, ...] = EXTRA_IDS) -> bytes:
    """The model file: ids 0 `<unk>`, 1 `<s>`, 2 `</s>`, then the user-defined pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=list(user_defined),
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()
