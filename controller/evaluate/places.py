"""Where an evaluation's parts lie: its answers, the run beside them, the model's vision tower."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from controller.intake import prompts_sha256
from neva.errors import ConfigError
from neva.job_file import answer_digest
from neva.model_files import ModelParts, find_model, small_model_files
from neva.nemo_config import NemoConfig
from neva.spec import JobSpec
from neva.spec_model import Model
from neva.store import NotFound

_FILE_NAME = "results.jsonl"
_DIGEST_LENGTH = 12


def answers_file(asked: str) -> str:
    """The file that `output_file` means: a folder takes results.jsonl."""
    if asked.endswith("/"):
        return f"{asked}{_FILE_NAME}"
    if "://" not in asked and Path(asked).is_dir():
        return f"{asked}/{_FILE_NAME}"
    return asked


def stem_of(file: str) -> str:
    """A file's name without its suffix."""
    return PurePosixPath(file).stem


def run_folder(file: str, spec: JobSpec) -> str:
    """Folder of the run whose answers go to `file`: the same for the same questions to the same
    model, so that a run that was killed goes on, and another one never meets its ledger.

    Raises:
        ConfigError: OBJECT_NOT_FOUND, there are no prompts; INVALID_CHECKPOINT, there is no model.
    """
    prompts = prompts_sha256(spec)
    if prompts is None:
        raise ConfigError(f"{spec.input.prompts} does not exist", reason=NotFound.reason)
    digest = hashlib.sha256(f"{answer_digest(spec)}\n{prompts}\n".encode())
    for mark in _marks(find_model(spec.model)):
        digest.update(mark.encode())
    folder, slash, _ = file.rpartition("/")
    return f"{folder}{slash}{stem_of(file)}.run/{digest.hexdigest()[:_DIGEST_LENGTH]}/"


def _marks(parts: ModelParts) -> list[str]:
    """What changes when the model's files do. Their contents are read often enough elsewhere; a
    mark that changes for nothing costs an evaluation anew."""
    return [
        f"{number}\0{item.key}\0{item.size_bytes}\0{item.modified_s}\n"
        for number, part in enumerate((parts.model, parts.base, parts.vision))
        for item in (part.files if part is not None else ())
    ]


def named_tower(model: Model) -> str | None:
    """The vision tower of a NeMo checkpoint that was given none: the directory on this machine
    that the checkpoint itself names. None where the model needs none.

    Raises:
        ConfigError: there is no such directory, or the checkpoint can't be read.
    """
    if model.vision_encoder is not None:
        return None
    with small_model_files(find_model(model)) as local:
        if not local.is_nemo:
            return None
        source = NemoConfig.read(local.archives()[0]).media().vision_source
    if (
        source is not None
        and Path(source).is_absolute()
        and (Path(source) / "config.json").exists()
    ):
        return source
    raise ConfigError(
        f"{model.uri} holds no vision tower, as no NeVA checkpoint does; its training took "
        f"{source!r}, which is no directory here: give one by vision_encoder=PATH"
    )
