"""The commands `inspect` and `convert`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from neva.local_model import LocalModel
from neva.model_files import fetch_model, find_model
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered, tell
from neva.settings import settings
from neva.spec_model import Model
from worker.checkpoint.inspection import as_dict, inspect_model
from worker.checkpoint.to_hf import convert_to_hf
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo

inspect_app = typer.Typer(add_completion=False)
convert_app = typer.Typer(add_completion=False)

ModelArgument = Annotated[str, typer.Argument(help="A Hugging Face directory or a .nemo.")]
BaseOption = Annotated[str | None, typer.Option(help="Base model of a projector checkpoint.")]
VisionOption = Annotated[str | None, typer.Option(help="The vision tower's directory.")]


class Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Weights(StrEnum):
    TORCH_DIST = "torch_dist"
    LEGACY = "legacy"


@inspect_app.command()
def inspect(
    model: ModelArgument,
    base_model: BaseOption = None,
    vision_encoder: VisionOption = None,
    precision: Annotated[Precision, typer.Option(help="To reckon memory with.")] = Precision.BF16,
    pipeline_parallel_size: Annotated[
        int, typer.Option(min=1, help="To reckon memory with: that of the largest stage.")
    ] = 1,
    form: FormatOption = Format.TEXT,
) -> None:
    """Say what a model is and what it needs, without loading its weights."""
    with errors_as_exit_codes(failed=2), _local(model, base_model, vision_encoder) as local:
        found = inspect_model(local, precision.value, pipeline_parallel_size)
        if form is not Format.TEXT:
            typer.echo(rendered(as_dict(found, precision.value, pipeline_parallel_size), form))
            return
        stages = f", PP {pipeline_parallel_size}" if pipeline_parallel_size > 1 else ""
        for name, words in found.facts:
            typer.echo(f"{name:<16}{words}")
        for size, num_bytes in found.weight_bytes_per_rank.items():
            typer.echo(
                f"{f'memory, TP {size}{stages}':<16}{num_bytes / 2**30:.2f} GiB a rank and "
                f"{found.kv_bytes_per_token[size]} bytes a cached token ({precision.value}); "
                f"{found.int4_bytes_per_rank[size] / 2**30:.2f} GiB with awq"
            )


@convert_app.command()
def convert(
    source: ModelArgument,
    target: Annotated[Path, typer.Argument(help="What to write; must not exist.")],
    base_model: BaseOption = None,
    vision_encoder: VisionOption = None,
    base_out: Annotated[
        Path | None, typer.Option(help="To NeMo: write projector and base apart, the base here.")
    ] = None,
    vision_out: Annotated[
        Path | None, typer.Option(help="To NeMo: where the tower goes; default TARGET-vision.")
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="To NeMo: how weights are kept.")
    ] = Weights.TORCH_DIST,
    template: Annotated[str, typer.Option(help="To NeMo: data.conv_template.")] = "v1",
    form: FormatOption = Format.TEXT,
) -> None:
    """Hugging Face LLaVA to NeMo 1, or back; the direction follows from SOURCE."""
    with errors_as_exit_codes(failed=2), _local(source, base_model, vision_encoder) as local:
        if local.is_nemo:
            convert_to_hf(local, target)
            written = {"model": target}
        else:
            tower = vision_out or target.with_name(f"{target.stem}-vision")
            paths = NemoPaths(target, tower, base_out)
            convert_to_nemo(local.path, paths, weights.value, template)
            base = {} if paths.base is None else {"base": paths.base}
            written = {"model": paths.model, **base, "vision": paths.vision}
    if form is Format.TEXT:
        for path in written.values():
            typer.echo(f"wrote {path}")
    tell({"wrote": {name: str(path) for name, path in written.items()}}, form)


@contextmanager
def _local(uri: str, base: str | None, vision: str | None) -> Iterator[LocalModel]:
    """The model on this machine, compressed files unpacked for as long as it takes."""
    wanted = Model.model_validate({"uri": uri, "baseModel": base, "visionEncoder": vision})
    parts = find_model(wanted)
    with tempfile.TemporaryDirectory(prefix="neva-model-", dir=settings().scratch_dir) as folder:
        yield fetch_model(parts, Path(folder))
