from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.checkpoint.nemo_writer import (
    Nemo,
    config_of,
    language_tensors,
    projector_tensors,
    write_tower,
)
from tests.worker.engine.conftest import one_thread, pool
from tests.worker.engine.models import TinyLlava, make_llava, make_request, write_media
from tests.worker.engine.models import reference_answer as hf_answer
from worker.engine.protocol import GenerateRequest

__all__ = ["one_thread", "pool"]

LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class Origin:
    """A Hugging Face LLaVA, its answer to one row, and its tower as a directory."""

    model: TinyLlava
    tower: Path
    request: GenerateRequest
    logits: np.ndarray

    def nemo(self) -> Nemo:
        """The same model as a finetuned NeVA."""
        reference = self.model.reference
        tensors = language_tensors(reference) | projector_tensors(reference)
        return Nemo(config_of(reference), {n: t.clone() for n, t in tensors.items()})


def make_origin(directory: Path, model: TinyLlava) -> Origin:
    media = write_media(directory / "media", num_frames=2, seed=4)
    request = make_request("row", 14, media=media)
    logits, _ = hf_answer(model, request)
    tower = write_tower(model.reference, directory / "tower")
    return Origin(model, tower, request, logits.numpy())


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """RMSNorm, gated SiLU, whole rotary embedding, 8 heads in 4 groups."""
    directory = tmp_path_factory.mktemp("llama")
    return make_origin(directory, make_llava(directory / "hf", num_kv_heads=4))


@pytest.fixture(scope="session")
def nemotron(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """LayerNorm with weights less 1 and biases, squared ReLU, half of each head rotated."""
    directory = tmp_path_factory.mktemp("nemotron")
    model = make_llava(directory / "hf", num_kv_heads=2, text_model="nemotron")
    return make_origin(directory, model)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """Biases on queries, keys and values, Llama 3.1's rotary scaling, a SigLIP tower."""
    directory = tmp_path_factory.mktemp("qwen")
    model = make_llava(
        directory / "hf", text_model="qwen2", tower="siglip", rope_parameters=LLAMA_3_ROPE
    )
    return make_origin(directory, model)


@pytest.fixture(scope="session")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """Biases on every matrix."""
    directory = tmp_path_factory.mktemp("biased")
    model = make_llava(directory / "hf", num_kv_heads=4, attention_bias=True, mlp_bias=True)
    return make_origin(directory, model)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)
