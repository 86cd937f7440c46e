"""Wrong, damaged and hostile checkpoints are refused, with everything that is wrong."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
import torch

from neva.archive import open_archive, unpack
from neva.errors import ConfigError
from neva.reasons import Reason
from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.nemo_writer import Layout, pack
from tests.worker.checkpoint.test_nemo_parts import opening

LAYOUTS: list[tuple[Layout, int, int]] = [
    ("single", 1, 1),
    ("mp_rank", 2, 1),
    ("tp_pp", 2, 3),
    ("torch_dist", 2, 1),
    ("zarr", 1, 1),
]


@pytest.mark.parametrize(("layout", "tp", "pp"), LAYOUTS)
def test_every_wrong_tensor_is_named_at_once(
    layout: Layout, tp: int, pp: int, llama: Origin, tmp_path: Path
) -> None:
    nemo = llama.nemo()
    nemo.layout, nemo.tp, nemo.pp = layout, tp, pp
    tensors = nemo.tensors
    for layer in range(3):
        prefix = f"model.decoder.layers.{layer}."
        del tensors[prefix + "self_attention.linear_proj.weight"]
        tensors[prefix + "mlp.linear_fc3.weight"] = tensors.pop(prefix + "mlp.linear_fc2.weight")
    projector = next(name for name in tensors if name.endswith("mm_projector.0.weight"))
    tensors[projector] = tensors[projector].T.contiguous()
    error = opening(nemo.write(tmp_path / "nemo"), llama.tower)
    assert error.reason is Reason.INVALID_CHECKPOINT
    for words in (
        "missing decoder.layers.2.self_attention.linear_proj.weight",
        "missing decoder.layers.0.mlp.linear_fc2.weight",
        "unexpected model.decoder.layers.",
        "linear_fc3.weight",
        f"{projector} has shape (64, 128), expected (128, 64)",
    ):
        assert words in error.message


EVERY_TENSOR = (
    "embedding.word_embeddings.weight",
    "embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector.0.bias",
    "embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector.2.weight",
    "output_layer.weight",
    "decoder.final_layernorm.weight",
    "decoder.layers.1.self_attention.linear_qkv.layer_norm_weight",
    "decoder.layers.1.self_attention.linear_qkv.weight",
    "decoder.layers.1.self_attention.linear_proj.weight",
    "decoder.layers.1.mlp.linear_fc1.layer_norm_weight",
    "decoder.layers.1.mlp.linear_fc1.weight",
    "decoder.layers.1.mlp.linear_fc2.weight",
)
# The norms have names of their own in the messages: fused ones are told as what they are.
TOLD_AS = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
}


@pytest.mark.parametrize("change", ["removed", "renamed", "reshaped"])
@pytest.mark.parametrize("name", EVERY_TENSOR)
def test_any_tensor_that_is_wrong_is_named(
    name: str, change: str, llama: Origin, tmp_path: Path
) -> None:
    nemo = llama.nemo()
    tensor = nemo.tensors.pop(f"model.{name}")
    if change == "renamed":
        nemo.tensors[f"model.{name}.old"] = tensor
    if change == "reshaped":
        narrow = tensor[:, :-1] if tensor.dim() == 2 else tensor[:-1]
        nemo.tensors[f"model.{name}"] = narrow.clone()
    message = opening(nemo.write(tmp_path / "nemo"), llama.tower).message
    told = name
    for stored, ours in TOLD_AS.items():
        told = told.replace(stored, ours)
    assert (f"missing {told}" in message) == (change != "reshaped")
    assert (f"unexpected model.{name}.old" in message) == (change == "renamed")
    assert (f"model.{name} has shape" in message) == (change == "reshaped")


def test_too_small_a_vocabulary_is_named(llama: Origin, tmp_path: Path) -> None:
    nemo = llama.nemo()
    for name in ("model.output_layer.weight", "model.embedding.word_embeddings.weight"):
        nemo.tensors[name] = nemo.tensors[name][:800]
    nemo.vocab_size = 800
    directory = nemo.write(tmp_path / "nemo")
    tokenizer = next(directory.glob("*_tokenizer.json"))
    other = llama.nemo().write(tmp_path / "other")
    tokenizer.write_bytes((other / tokenizer.name).read_bytes())
    message = opening(directory, llama.tower).message
    assert "model.output_layer.weight has shape (896, 128), expected (1000, 128)" in message


def test_a_missing_rank_and_ranks_that_do_not_fit_are_named(llama: Origin, tmp_path: Path) -> None:
    nemo = llama.nemo()
    nemo.layout, nemo.tp, nemo.pp = "tp_pp", 2, 3
    directory = nemo.write(tmp_path / "nemo")
    file = directory / "tp_rank_01_pp_rank_002" / "model_weights.ckpt"
    shard = torch.load(file, weights_only=False)
    del shard["model.decoder.final_layernorm.weight"]
    torch.save(shard, file)
    message = opening(directory, llama.tower).message
    assert "model.decoder.final_layernorm.weight is missing on tensor ranks [1]" in message
    file.unlink()
    message = opening(directory, llama.tower).message
    assert "no weights of tensor rank 1 of pipeline rank 2" in message


def test_a_missing_chunk_or_file_is_named(llama: Origin, tmp_path: Path) -> None:
    nemo = llama.nemo()
    nemo.layout = "zarr"
    directory = nemo.write(tmp_path / "zarr")
    name = "model.decoder.layers.mlp.linear_fc1.weight"
    (directory / "model_weights" / name / "1.0.0").unlink()
    assert f"the chunk {name}/1.0.0 is missing" in opening(directory, llama.tower).message
    nemo.layout = "torch_dist"
    directory = nemo.write(tmp_path / "torch_dist")
    data = directory / "model_weights" / "__0_0.distcp"
    data.write_bytes(data.read_bytes()[:-100])
    assert "__0_0.distcp is cut off" in opening(directory, llama.tower).message
    data.unlink()
    assert "has no __0_0.distcp" in opening(directory, llama.tower).message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "learned_absolute"),
        ("activation", "swish"),
        ("bias", "some"),
        ("qkv_bias", "some"),
        ("scale_positional_embedding", "some"),
        ("normalization", "low_precision_layernorm"),
        ("num_moe_experts", 8),
    ],
)
def test_an_architecture_that_is_not_known_is_refused(
    key: str, value: object, llama: Origin, tmp_path: Path
) -> None:
    nemo = llama.nemo()
    nemo.config[key] = value
    error = opening(nemo.write(tmp_path / "nemo"), llama.tower)
    assert error.reason is Reason.UNSUPPORTED_MODEL
    assert f"{key} is {value!r}" in error.message


# ---- hostile files ----


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_no_pickle_is_executed(llama: Origin, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    directory = llama.nemo().write(tmp_path / "nemo")
    torch.save({"model.a": Payload(trap)}, directory / "model_weights.ckpt")
    assert "can't be read as weights" in opening(directory, llama.tower).message
    nemo = llama.nemo()
    nemo.layout = "torch_dist"
    directory = nemo.write(tmp_path / "dist")
    (directory / "model_weights" / ".metadata").write_bytes(pickle.dumps(Payload(trap)))
    assert "has no business there" in opening(directory, llama.tower).message
    assert not trap.exists()


def tar_with(path: Path, *members: tarfile.TarInfo, compress: bool = False) -> Path:
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("/etc/outside"),
        member("./a/../../outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "good"),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: info.name,
)
def test_a_tar_that_leads_elsewhere_is_refused(
    bad: tarfile.TarInfo, compress: bool, tmp_path: Path
) -> None:
    file = tar_with(tmp_path / "m.nemo", member("good"), bad, compress=compress)
    with pytest.raises(ConfigError, match="holds"):
        if compress:
            unpack(file, tmp_path / "unpacked")
        else:
            open_archive(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.nemo"]


def test_a_tar_with_one_name_twice_or_cut_off_is_refused(llama: Origin, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        open_archive(tar_with(tmp_path / "a.nemo", member("./x"), member("x")))
    directory = llama.nemo().write(tmp_path / "nemo")
    whole = pack(directory, tmp_path / "b.nemo")
    cut = tmp_path / "cut.nemo"
    cut.write_bytes(whole.read_bytes()[:-200_000])
    with pytest.raises(ConfigError, match=r"cut off|can't be read"):
        open_archive(cut)
    (tmp_path / "text.nemo").write_text("no tar")
    with pytest.raises(ConfigError, match="can't be read as a tar"):
        open_archive(tmp_path / "text.nemo")
