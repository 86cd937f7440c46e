"""What the contenders answer: videos, questions about each, and the model that is asked.

`demo` is the demo model with the demo's scenes and questions. `mid` is a random LLaVA with a LLaMA
of 103 million parameters and the smallest usual tower of 256 patches (ViT-S/14), `large` one of
LLaVA-1.5-7B's sizes with the tower of Video NeVA's default, ViT-L/14 at 224 pixels. Their videos
are those of that default: 8 frames of 256 visual tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as TokenizerModel
from tokenizers.models import WordLevel
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from demo.questions import QUESTIONS
from demo.scenes import random_scene, render
from neva.model_profile import read_model_profile
from neva.prompting import build_prompt
from neva.templates import InsertMedia
from neva.tokens import Tokenizer
from worker.engine.protocol import GenerateRequest, MediaRef, SamplingParams
from worker.media.preprocess import from_profile

DEMO_MODEL_DIR: Final = Path(__file__).parent.parent / "demo" / "model"
NUM_QUESTIONS: Final = 3

_DEMO_RENDER_SIZE: Final = 96  # pixels
_DEMO_NEW_TOKENS: Final = 24

_FRAMES: Final = 8
_IMAGE_SIZE: Final = 224
_PATCH_SIZE: Final = 14
_NEW_TOKENS: Final = 64
_SYSTEM_TOKENS: Final = 36  # the v1 template's system sentence, roughly
_QUESTION_TOKENS: Final = (11, 14, 17, 12)
_SUFFIX_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows of one model; those of one video stand together, as in a shard."""

    name: str
    model_dir: Path
    requests: tuple[GenerateRequest, ...]

    @property
    def num_videos(self) -> int:
        return len({row.media.key for row in self.requests if row.media is not None})


def demo_workload(insert: InsertMedia, num_videos: int, directory: Path) -> Workload:
    """Clips of the demo's world, three questions each; pixel files go to `directory`."""
    profile = read_model_profile(DEMO_MODEL_DIR)
    tokenizer = Tokenizer.from_directory(DEMO_MODEL_DIR)
    preprocess = from_profile(profile)
    rng = np.random.default_rng(5)
    wordings = [wording for group in QUESTIONS.values() for wording in group]
    times = np.linspace(0, 1, profile.num_frames).tolist()
    requests: list[GenerateRequest] = []
    for video in range(num_videos):
        pixels = preprocess(render(random_scene(rng), times, _DEMO_RENDER_SIZE))
        media = _write_media(directory / f"demo-{video}.f32", pixels)
        for question in rng.choice(wordings, NUM_QUESTIONS, replace=False):
            prompt = build_prompt(
                str(question), "video", insert, profile, tokenizer, profile.num_frames
            )
            requests.append(
                GenerateRequest(
                    request_id=str(len(requests)),
                    row_key=str(len(requests)),
                    before_ids=prompt.before_ids,
                    num_media_tokens=prompt.num_media_tokens,
                    after_ids=prompt.after_ids,
                    media=media,
                    sampling=SamplingParams(greedy=True, max_new_tokens=_DEMO_NEW_TOKENS),
                )
            )
    return Workload(f"demo_{insert}", DEMO_MODEL_DIR, tuple(requests))


@dataclass(frozen=True, slots=True)
class RandomModel:
    """Sizes of a random LLaVA; what is not here is the same for all."""

    name: str
    tower_hidden: int
    tower_layers: int
    tower_heads: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    vocab: int
    # Wide enough that the best two tokens of a step are no near tie.
    weight_range: float


MID: Final = RandomModel("mid", 384, 12, 6, 1024, 2816, 8, 16, 8192, 0.05)
LARGE: Final = RandomModel("large", 1024, 24, 16, 4096, 11008, 32, 32, 32064, 0.02)


def random_workload(
    model: RandomModel,
    insert: InsertMedia,
    num_videos: int,
    model_dir: Path,
    directory: Path,
    *,
    num_questions: int = NUM_QUESTIONS,
    num_new_tokens: int = _NEW_TOKENS,
) -> Workload:
    """Noise videos and random questions of unequal length for the model of `write_random_model`."""
    rng = np.random.default_rng(6)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(int(token) for token in rng.integers(3, model.vocab - 1, count))

    system, suffix = ids(_SYSTEM_TOKENS), ids(_SUFFIX_TOKENS)
    sampling = SamplingParams(
        greedy=True, max_new_tokens=num_new_tokens, min_new_tokens=num_new_tokens
    )
    shape = (_FRAMES, 3, _IMAGE_SIZE, _IMAGE_SIZE)
    requests: list[GenerateRequest] = []
    for video in range(num_videos):
        pixels = rng.standard_normal(shape).astype(np.float32)
        media = _write_media(directory / f"{model.name}-{insert}-{video}.f32", pixels)
        for number in range(num_questions):
            question = ids(_QUESTION_TOKENS[number])
            is_left = insert == "left"
            requests.append(
                GenerateRequest(
                    request_id=str(len(requests)),
                    row_key=str(len(requests)),
                    before_ids=system if is_left else (*system, *question),
                    num_media_tokens=_FRAMES * (_IMAGE_SIZE // _PATCH_SIZE) ** 2,
                    after_ids=(*question, *suffix) if is_left else suffix,
                    media=media,
                    sampling=sampling,
                )
            )
    return Workload(f"{model.name}_{insert}", model_dir, tuple(requests))


def write_random_model(
    model: RandomModel,
    directory: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> None:
    """Save a random model as a Hugging Face LLaVA directory; made on `device`, which is faster."""
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=model.tower_hidden,
            intermediate_size=4 * model.tower_hidden,
            num_hidden_layers=model.tower_layers,
            num_attention_heads=model.tower_heads,
            image_size=_IMAGE_SIZE,
            patch_size=_PATCH_SIZE,
        ),
        text_config=LlamaConfig(
            vocab_size=model.vocab,
            hidden_size=model.hidden,
            intermediate_size=model.mlp,
            num_hidden_layers=model.layers,
            num_attention_heads=model.heads,
            num_key_value_heads=model.heads,
            max_position_embeddings=4096,
            initializer_range=model.weight_range,
            eos_token_id=2,
        ),
        image_token_index=model.vocab - 1,
    )
    kind: Any = LlavaForConditionalGeneration
    with device or torch.device("cpu"):
        llava = kind._from_config(config, dtype=dtype)
    directory.mkdir(parents=True)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(directory)
    tensors = {name: tensor.contiguous() for name, tensor in llava.state_dict().items()}
    save_file(tensors, directory / "model.safetensors")
    preprocessor = {
        "size": {"shortest_edge": _IMAGE_SIZE},
        "crop_size": {"height": _IMAGE_SIZE, "width": _IMAGE_SIZE},
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    words = WordLevel({f"w{i}": i for i in range(model.vocab)}, unk_token="w0")
    TokenizerModel(words).save(str(directory / "tokenizer.json"))


def read_pixels(requests: Sequence[GenerateRequest]) -> torch.Tensor:
    """The rows' frames one row after the other, as transformers wants them: (frames, 3, h, w)."""
    return torch.cat(
        [
            torch.from_numpy(np.fromfile(row.media.path, dtype=np.float32)).reshape(row.media.shape)
            for row in requests
            if row.media is not None
        ]
    )


def _write_media(path: Path, pixels: np.ndarray) -> MediaRef:
    pixels.astype(np.float32).tofile(path)
    num_frames, num_channels, height, width = pixels.shape
    return MediaRef(path.name, str(path), (num_frames, num_channels, height, width))
