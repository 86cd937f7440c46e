"""A model directory without weights: just the files that a profile is read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
IMAGE_ID = SPECIAL.index("<image>")
NUM_SPECIAL = len(SPECIAL)


def byte_tokenizer(adds_bos: bool = False) -> tokenizers.Tokenizer:
    """One token a byte; ids are easy to count."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair=None, special_tokens=[("<s>", SPECIAL.index("<s>"))]
        )
    return tokenizer


def config_files() -> dict[str, dict[str, Any]]:
    return {
        "config.json": {
            "model_type": "llava",
            "image_token_index": IMAGE_ID,
            "text_config": {
                "max_position_embeddings": 1024,
                "vocab_size": 261,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
            "vision_config": {"image_size": 64, "patch_size": 16},
        },
        "generation_config.json": {"eos_token_id": 2},
        "preprocessor_config.json": {
            "size": {"shortest_edge": 64},
            "crop_size": {"height": 64, "width": 64},
        },
    }


def write_model_dir(
    directory: Path, files: dict[str, dict[str, Any]] | None = None, adds_bos: bool = False
) -> Path:
    for name, content in (files or config_files()).items():
        (directory / name).write_text(json.dumps(content))
    byte_tokenizer(adds_bos).save(str(directory / "tokenizer.json"))
    return directory
