"""Writes NeMo 1 checkpoints by hand, layout by layout, from Hugging Face models.

Nothing of `worker.checkpoint` or of the converter is used: it is the readers' independent check.
`V` vocabulary, `H` hidden, `F` inner size of the MLP, `D` head size.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

Tensors = dict[str, torch.Tensor]
Layout = Literal["single", "mp_rank", "tp_pp", "torch_dist", "zarr"]
Names = Literal["te", "local", "legacy"]

GARBAGE = 77.0  # in the rows that only pad the vocabulary
TOKENIZER_ARTIFACT = "0123456789abcdef0123456789abcdef_tokenizer.json"
PROJECTOR = "model.embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector."

_LOCAL = {
    ".self_attention.linear_qkv.layer_norm_": ".input_layernorm.",
    ".mlp.linear_fc1.layer_norm_": ".pre_mlp_layernorm.",
}
_LEGACY = {
    ".self_attention.linear_qkv.layer_norm_": ".input_layernorm.",
    ".mlp.linear_fc1.layer_norm_": ".post_attention_layernorm.",
    "model.embedding.": "model.language_model.embedding.",
    "model.output_layer.": "model.language_model.output_layer.",
    "model.decoder.": "model.language_model.encoder.",
    ".self_attention.linear_qkv.": ".self_attention.query_key_value.",
    ".self_attention.linear_proj.": ".self_attention.dense.",
    ".mlp.linear_fc1.": ".mlp.dense_h_to_4h.",
    ".mlp.linear_fc2.": ".mlp.dense_4h_to_h.",
}
_RENAMES: dict[Names, dict[str, str]] = {"te": {}, "local": _LOCAL, "legacy": _LEGACY}


def language_tensors(reference: Any) -> Tensors:
    """The language model of a LLaVA under megatron-core's names (Transformer Engine's spelling)."""
    text = reference.config.text_config
    heads, groups = text.num_attention_heads, text.num_key_value_heads
    state = reference.state_dict()
    has_bias = "model.language_model.norm.bias" in state
    tensors = {
        "model.embedding.word_embeddings.weight": state["model.language_model.embed_tokens.weight"],
        "model.output_layer.weight": state["lm_head.weight"],
        "model.decoder.final_layernorm.weight": state["model.language_model.norm.weight"],
    }
    if has_bias:
        tensors["model.decoder.final_layernorm.bias"] = state["model.language_model.norm.bias"]
    for layer in range(text.num_hidden_layers):
        hf, nemo = f"model.language_model.layers.{layer}.", f"model.decoder.layers.{layer}."
        q, k, v = (
            state[f"{hf}self_attn.{part}_proj.weight"].unflatten(0, (count, -1))  # heads, D, H
            for part, count in (("q", heads), ("k", groups), ("v", groups))
        )
        tensors[nemo + "self_attention.linear_qkv.weight"] = _by_group(q, k, v)
        tensors[nemo + "self_attention.linear_proj.weight"] = state[hf + "self_attn.o_proj.weight"]
        up = state[hf + "mlp.up_proj.weight"]
        gate = state.get(hf + "mlp.gate_proj.weight")
        tensors[nemo + "mlp.linear_fc1.weight"] = up if gate is None else torch.cat([gate, up])
        tensors[nemo + "mlp.linear_fc2.weight"] = state[hf + "mlp.down_proj.weight"]
        if hf + "self_attn.q_proj.bias" in state:
            tensors[nemo + "self_attention.linear_qkv.bias"] = _by_group(
                *(
                    state[f"{hf}self_attn.{part}_proj.bias"].unflatten(0, (count, -1))  # heads, D
                    for part, count in (("q", heads), ("k", groups), ("v", groups))
                )
            )
        if hf + "mlp.up_proj.bias" in state:
            tensors[nemo + "self_attention.linear_proj.bias"] = state[hf + "self_attn.o_proj.bias"]
            tensors[nemo + "mlp.linear_fc1.bias"] = torch.cat(
                [state[hf + "mlp.gate_proj.bias"], state[hf + "mlp.up_proj.bias"]]
            )
            tensors[nemo + "mlp.linear_fc2.bias"] = state[hf + "mlp.down_proj.bias"]
        for part in ("weight", "bias") if has_bias else ("weight",):
            tensors[nemo + f"self_attention.linear_qkv.layer_norm_{part}"] = state[
                f"{hf}input_layernorm.{part}"
            ]
            tensors[nemo + f"mlp.linear_fc1.layer_norm_{part}"] = state[
                f"{hf}post_attention_layernorm.{part}"
            ]
    return tensors


def _by_group(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(heads, D, …), (groups, D, …) twice: each group's queries, its key, its value, as rows."""
    per_group = len(q) // len(k)
    rows: list[torch.Tensor] = []
    for group in range(len(k)):
        rows += [*q[group * per_group : (group + 1) * per_group], k[group], v[group]]
    return torch.cat(rows)


def projector_tensors(reference: Any) -> Tensors:
    """LLaVA's projector as NeMo's mlp2x_gelu."""
    state = reference.model.multi_modal_projector.state_dict()
    return {
        f"{PROJECTOR}{index}.{part}": state[f"{name}.{part}"]
        for name, index in (("linear_1", 0), ("linear_2", 2))
        for part in ("weight", "bias")
    }


def config_of(reference: Any) -> dict[str, Any]:
    """model_config.yaml of a NeVA that is this LLaVA."""
    text, vision = reference.config.text_config, reference.config.vision_config
    nemotron = text.model_type == "nemotron"
    siglip = vision.model_type == "siglip_vision_model"
    return {
        "mcore_gpt": True,
        "encoder_seq_length": text.max_position_embeddings,
        "num_layers": text.num_hidden_layers,
        "hidden_size": text.hidden_size,
        "ffn_hidden_size": text.intermediate_size,
        "num_attention_heads": text.num_attention_heads,
        "num_query_groups": text.num_key_value_heads,
        "kv_channels": None,
        "normalization": "layernorm1p" if nemotron else "rmsnorm",
        "layernorm_epsilon": text.norm_eps if nemotron else text.rms_norm_eps,
        "activation": "squared-relu" if nemotron else "fast-swiglu",
        "bias": getattr(text, "mlp_bias", False),
        "qkv_bias": text.model_type == "qwen2",
        "scale_positional_embedding": text.rope_parameters["rope_type"] == "llama3",
        "position_embedding_type": "rope",
        "rotary_percentage": text.rope_parameters.get("partial_rotary_factor", 1.0),
        "rotary_base": text.rope_parameters["rope_theta"],
        "share_embeddings_and_output_weights": False,
        "make_vocab_size_divisible_by": 128,
        "tokenizer": {"library": "huggingface", "model": f"nemo:{TOKENIZER_ARTIFACT}"},
        "mm_cfg": {
            "llm": {"from_pretrained": None, "freeze": False, "model_type": "v1"},
            "vision_encoder": {
                "from_pretrained": "openai/clip-vit-large-patch14",
                "from_hf": True,
                "patch_dim": vision.patch_size,
                "crop_size": [vision.image_size, vision.image_size],
                "hidden_size": vision.hidden_size,
                "vision_select_layer": -2,
                "class_token_length": 0 if siglip else 1,
                "freeze": True,
            },
            "mm_mlp_adapter_type": "mlp2x_gelu",
            "use_im_start_end": False,
        },
        "data": {"conv_template": "v1", "media_type": "video", "num_frames": 2},
        "target": "nemo.collections.multimodal.models.multimodal_llm.neva.neva_model."
        "MegatronNevaModel",
        "nemo_version": "2.0.0rc0",
    }


@dataclass
class Nemo:
    """A checkpoint to be written; change what you like before `write`."""

    config: dict[str, Any]
    tensors: Tensors
    layout: Layout = "single"
    names: Names = "te"
    tp: int = 1
    pp: int = 1
    vocab_size: int = 1000
    extra_state: bool = True
    files: dict[str, bytes] = field(default_factory=dict)

    def write(self, directory: Path) -> Path:
        """Write it as an unpacked directory."""
        directory.mkdir(parents=True)
        (directory / "model_config.yaml").write_text(yaml.safe_dump(self.config))
        (directory / TOKENIZER_ARTIFACT).write_bytes(tokenizer_json(self.vocab_size))
        tensors = {name: self._padded(name, t) for name, t in self.tensors.items()}
        match self.layout:
            case "single" | "mp_rank" | "tp_pp":
                self._write_ranks(directory, tensors)
            case "torch_dist":
                self._write_torch_dist(directory / "model_weights", tensors)
            case "zarr":
                self._write_zarr(directory / "model_weights", tensors)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)
        return directory

    def _padded(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not name.endswith(("word_embeddings.weight", "output_layer.weight")):
            return tensor
        multiple = 128 * self.tp
        missing = -(-self.vocab_size // multiple) * multiple - len(tensor)
        return torch.cat([tensor, torch.full((missing, tensor.size(1)), GARBAGE)])

    def _renamed(self, name: str) -> str:
        for old, new in _RENAMES[self.names].items():
            name = name.replace(old, new)
        return name

    def _axis(self, name: str) -> int | None:
        """The axis that ranks split, of a Transformer Engine name."""
        if "layer_norm" in name or "mm_projector" in name or "vision_encoder" in name:
            return None
        if "linear_qkv." in name or "linear_fc1." in name or "lora_kqv_adapter" in name:
            return 0
        if name.endswith(("word_embeddings.weight", "output_layer.weight")):
            return 0
        if "lora_hto4h_adapter" in name or "linear_out." in name:
            return 0
        if "linear_proj.weight" in name or "linear_fc2.weight" in name or "linear_in." in name:
            return 1
        return None

    def _shards(self, name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
        axis = self._axis(name)
        if axis is None:
            return [tensor] * self.tp
        if ("linear_fc1." in name or "hto4h_adapter.linear_out" in name) and self.config[
            "activation"
        ] == "fast-swiglu":
            gate, up = tensor.chunk(2)
            pairs = zip(gate.chunk(self.tp), up.chunk(self.tp), strict=True)
            return [torch.cat(pair) for pair in pairs]
        return list(tensor.chunk(self.tp, dim=axis))  # views into one storage

    # ---- a file per rank ----

    def _write_ranks(self, directory: Path, tensors: Tensors) -> None:
        per_stage = self.config["num_layers"] // self.pp
        for stage in range(self.pp):
            for rank in range(self.tp):
                shard: dict[str, Any] = {}
                for name, tensor in tensors.items():
                    local = self._name_in_stage(name, stage, per_stage)
                    if local is not None:
                        shard[self._renamed(local)] = self._shards(name, tensor)[rank]
                        if self.extra_state and ".linear_qkv.weight" in local:
                            key = local.replace(".weight", "._extra_state")
                            shard[key] = io.BytesIO(b"bookkeeping") if rank else None
                folder = {
                    "single": directory,
                    "mp_rank": directory / f"mp_rank_{rank:02d}",
                    "tp_pp": directory / f"tp_rank_{rank:02d}_pp_rank_{stage:03d}",
                }[self.layout]
                folder.mkdir(exist_ok=True)
                torch.save(shard, folder / "model_weights.ckpt")

    def _name_in_stage(self, name: str, stage: int, per_stage: int) -> str | None:
        if ".layers." in name:
            head, _, rest = name.partition(".layers.")
            number, _, tail = rest.partition(".")
            if int(number) // per_stage != stage:
                return None
            return f"{head}.layers.{int(number) - stage * per_stage}.{tail}"
        if name.startswith("model.embedding."):
            return name if stage == 0 else None
        return name if stage == self.pp - 1 else None

    # ---- distributed ----

    def _stacked(self, tensors: Tensors) -> dict[str, tuple[torch.Tensor, tuple[int, ...]]]:
        """Whole tensors with the shape of their chunks, layers stacked, one chunk a layer."""
        layers: dict[str, list[torch.Tensor]] = {}
        whole: dict[str, tuple[torch.Tensor, tuple[int, ...]]] = {}
        for name, tensor in tensors.items():
            axis = self._axis(name)
            chunk = [s // self.tp if i == axis else s for i, s in enumerate(tensor.shape)]
            if ".layers." in name:
                head, _, rest = name.partition(".layers.")
                stacked = f"{head}.layers.{rest.partition('.')[2]}"
                layers.setdefault(stacked, []).append(tensor)
                whole[stacked] = (torch.stack(layers[stacked]), (1, *chunk))
            else:
                whole[name] = (tensor, tuple(chunk))
        return {self._renamed(name): item for name, item in whole.items()}

    def _write_torch_dist(self, directory: Path, tensors: Tensors) -> None:
        directory.mkdir()
        metadata: dict[str, Any] = {}
        storage: dict[MetadataIndex, _StorageInfo] = {}
        files = [io.BytesIO() for _ in range(self.tp)]
        for name, (tensor, chunk_shape) in self._stacked(tensors).items():
            chunks: list[ChunkStorageMetadata] = []
            counts = [s // c for s, c in zip(tensor.shape, chunk_shape, strict=True)]
            for number, place in enumerate(np.ndindex(*counts)):
                start = tuple(i * c for i, c in zip(place, chunk_shape, strict=True))
                window = tuple(slice(a, a + c) for a, c in zip(start, chunk_shape, strict=True))
                file = number % self.tp
                offset = files[file].tell()
                torch.save(tensor[window].clone(), files[file])
                info = _StorageInfo(f"__{file}_0.distcp", offset, files[file].tell() - offset)
                storage[MetadataIndex(name, start, len(chunks))] = info
                chunks.append(ChunkStorageMetadata(torch.Size(start), torch.Size(chunk_shape)))
            properties = TensorProperties(dtype=tensor.dtype)
            metadata[name] = TensorStorageMetadata(properties, tensor.shape, chunks)
        if self.extra_state:
            key = "model.decoder.layers.self_attention.linear_qkv._extra_state/shard_0_3"
            metadata[key] = BytesStorageMetadata()
            storage[MetadataIndex(key)] = _StorageInfo("__0_0.distcp", 0, 1)
        for number, file in enumerate(files):
            (directory / f"__{number}_0.distcp").write_bytes(file.getvalue())
        whole = Metadata(metadata, planner_data={"a": ("a",)}, storage_data=storage)
        (directory / ".metadata").write_bytes(pickle.dumps(whole))
        self._write_common(directory, "torch_dist")

    def _write_zarr(self, directory: Path, tensors: Tensors) -> None:
        directory.mkdir()
        for name, (tensor, chunk_shape) in self._stacked(tensors).items():
            folder = directory / name
            folder.mkdir()
            bf16 = tensor.dtype == torch.bfloat16
            header = {
                "zarr_format": 2,
                "shape": list(tensor.shape),
                "chunks": list(chunk_shape),
                "dtype": "bfloat16" if bf16 else "<f4",
                "compressor": None,
                "filters": None,
                "fill_value": None,
                "order": "C",
            }
            (folder / ".zarray").write_text(json.dumps(header))
            counts = [s // c for s, c in zip(tensor.shape, chunk_shape, strict=True)]
            for place in np.ndindex(*counts):
                window = tuple(
                    slice(i * c, (i + 1) * c) for i, c in zip(place, chunk_shape, strict=True)
                )
                data = tensor[window].contiguous()
                raw = (data.view(torch.uint16) if bf16 else data).numpy().tobytes()
                (folder / ".".join(map(str, place))).write_bytes(raw)
        if self.extra_state:
            folder = directory / "model.decoder.layers.self_attention.linear_qkv._extra_state"
            folder.mkdir()
            (folder / "shard_0_3.pt").write_bytes(b"bookkeeping")
        self._write_common(directory, "zarr")

    def _write_common(self, directory: Path, backend: str) -> None:
        facts = {
            "sharded_backend": backend,
            "sharded_backend_version": 1,
            "common_backend": "torch",
        }
        (directory / "metadata.json").write_text(json.dumps(facts))
        torch.save({}, directory / "common.pt")


def pack(directory: Path, file: Path, *, compress: bool = False) -> Path:
    """A .nemo file of an unpacked directory, members with a leading `./` as NeMo has them."""
    with tarfile.open(file, "w:gz" if compress else "w") as tar:
        tar.add(directory, arcname="./")
    return file


def tokenizer_json(vocab_size: int) -> bytes:
    """Words w0 … with `</s>` as id 2 and NeVA's eight pieces at the end."""
    words = {f"w{i}": i for i in range(vocab_size - 8) if i != 2}
    words |= {"</s>": 2} | {f"<extra_id_{i}>": vocab_size - 8 + i for i in range(8)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer.to_str().encode()


def write_tower(reference: Any, directory: Path, *, whole: bool = False) -> Path:
    """The tower's own directory: alone as safetensors, or in a whole model's pytorch_model.bin."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True)
    vision = reference.config.vision_config
    state = reference.model.vision_tower.state_dict()
    tensors = {"vision_model." + n.removeprefix("vision_model."): t for n, t in state.items()}
    config: dict[str, Any] = vision.to_dict()
    if whole:
        kind = vision.model_type.removesuffix("_vision_model")
        config = {"model_type": kind, "vision_config": config}
        tensors |= {"logit_scale": torch.ones(()), "text_model.final.weight": torch.ones(3)}
        if kind == "siglip":
            tensors["logit_bias"] = torch.ones(())
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file({n: t.contiguous() for n, t in tensors.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config))
    return directory
