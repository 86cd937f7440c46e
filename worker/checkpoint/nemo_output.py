"""Writing a NeMo checkpoint: as a directory, or as a plain tar when the name ends in .nemo.

It appears whole: everything is written beside its place and renamed at the end.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import orjson
import torch
import yaml
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from neva.errors import ConfigError
from neva.nemo_config import CONFIG_FILE
from worker.checkpoint.rank_files import WEIGHTS_FILE

WeightsFormat = Literal["torch_dist", "legacy"]
_LAYER = re.compile(r"\.layers\.(\d+)\.")


class NemoOutput:
    """One checkpoint being written; leaving the context without an error puts it in its place."""

    def __init__(self, path: Path, artifacts: dict[str, bytes]) -> None:
        """Raises ConfigError: there is something already."""
        if path.exists():
            raise ConfigError(f"{path} exists already; remove it, or write elsewhere")
        self._path = path
        self._folder = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        self._artifacts = artifacts

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        for name, content in self._artifacts.items():
            (self._folder / name).write_bytes(content)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._publish()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write_config(self, config: dict[str, Any]) -> None:
        (self._folder / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False))

    def write_weights(
        self, tensors: dict[str, torch.Tensor], weights_format: WeightsFormat
    ) -> None:
        """tensors: by megatron-core name, layers numbered."""
        if weights_format == "legacy":
            torch.save(tensors, self._folder / WEIGHTS_FILE)
            return
        folder = self._folder / "model_weights"
        with warnings.catch_warnings():
            # One process is what is wanted.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            save(stack_layers(tensors), storage_writer=FileSystemWriter(folder), no_dist=True)
        torch.save({}, folder / "common.pt")
        facts = {
            "sharded_backend": "torch_dist",
            "sharded_backend_version": 1,
            "common_backend": "torch",
            "common_backend_version": 1,
        }
        (folder / "metadata.json").write_bytes(orjson.dumps(facts))

    def _publish(self) -> None:
        if self._path.suffix != ".nemo":
            self._folder.rename(self._path)
            return
        tar_path = self._folder.with_suffix(".tar")
        try:
            with tarfile.open(tar_path, "w") as tar:
                for file in sorted(self._folder.rglob("*")):
                    name = f"./{file.relative_to(self._folder).as_posix()}"
                    tar.add(file, name, recursive=False, filter=_anonymous)
            tar_path.rename(self._path)
        finally:
            tar_path.unlink(missing_ok=True)


def stack_layers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters of all layers as one tensor each, named without the layer's number."""
    stacked: dict[str, torch.Tensor] = {}
    layers: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _LAYER.search(name)
        if match is None:
            stacked[name] = tensor
        else:
            layers.setdefault(_LAYER.sub(".layers.", name), {})[int(match[1])] = tensor
    for name, parts in layers.items():
        stacked[name] = torch.stack([parts[number] for number in range(len(parts))])
    return stacked


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who converted it and when is nobody's business, and two runs give the same bytes."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info
