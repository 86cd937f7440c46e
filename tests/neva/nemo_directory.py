"""A NeMo checkpoint's small files, without torch, and weights that nobody reads."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

ARTIFACT = "0123456789abcdef0123456789abcdef_tokenizer.json"
WEIGHTS = "model_weights.ckpt"


def nemo_config() -> dict[str, Any]:
    return {
        "encoder_seq_length": 4096,
        "num_layers": 2,
        "hidden_size": 64,
        "ffn_hidden_size": 128,
        "num_attention_heads": 4,
        "num_query_groups": None,
        "normalization": "layernorm1p",
        "layernorm_epsilon": "1e-5",
        "activation": "squared-relu",
        "bias": False,
        "position_embedding_type": "rope",
        "rotary_percentage": 0.5,
        "share_embeddings_and_output_weights": False,
        "tokenizer": {"library": "huggingface", "model": f"nemo:{ARTIFACT}"},
        "mm_cfg": {
            "llm": {"from_pretrained": "null", "freeze": False, "model_type": "nvgpt"},
            "vision_encoder": {
                "from_pretrained": "openai/clip-vit-large-patch14",
                "patch_dim": 14,
                "hidden_size": 1024,
                "vision_select_layer": -2,
                "class_token_length": 1,
            },
            "mm_mlp_adapter_type": "mlp2x_gelu",
        },
        "data": {"conv_template": "nv_steerlm", "media_type": "video", "num_frames": 8},
    }


def write_nemo(directory: Path, config: dict[str, Any], weight_bytes: int = 1000) -> Path:
    """An unpacked directory."""
    directory.mkdir()
    (directory / "model_config.yaml").write_text(yaml.safe_dump(config))
    words = {"</s>": 0, "<s>": 1, "hand": 2} | {f"<extra_id_{i}>": 3 + i for i in range(8)}
    (directory / ARTIFACT).write_text(Tokenizer(WordLevel(words)).to_str())
    (directory / WEIGHTS).write_bytes(bytes(weight_bytes))
    return directory


def write_clip(directory: Path, image_size: int = 224) -> Path:
    """The small files of a whole CLIP."""
    directory.mkdir()
    vision = {"image_size": image_size, "patch_size": 14, "hidden_size": 1024}
    config = {"model_type": "clip", "vision_config": vision}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def pack(directory: Path, file: Path, *, compress: bool = False) -> Path:
    with tarfile.open(file, "w:gz" if compress else "w") as tar:
        tar.add(directory, arcname="./")
    return file
