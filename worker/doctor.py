"""The worker's parts for `neva doctor`: GPUs, shared memory, decoders, checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from neva.extras import install_words
from neva.findings import Finding, errors_as_findings, ok, problem, skipped
from neva.model_files import fetch_model, find_model, small_model_files
from neva.process import SHARED_MEMORY
from neva.settings import settings
from neva.spec import VideoNevaJob
from neva.spec_model import Model
from worker.checkpoint.inspection import inspect_model
from worker.media.installed import require_decoder

DRIVER = Path("/proc/driver/nvidia/version")
_DECODERS = ("decord", "av", "torchcodec")
_OPTIONAL = "torchcodec"
_IMPORT_S = 60


def examine(job: VideoNevaJob | None) -> Iterator[Finding]:
    """Reads headers of weights, never a weight; downloads nothing but small files."""
    found: list[Finding] = []
    found.append(gpus(_num_ranks(job)))
    found.append(shared_memory(SHARED_MEMORY))
    with errors_as_findings("decoders", found):
        if job is not None:
            require_decoder(job.spec.media.decoder)
        found.append(_decoders())
    if job is None:
        found.append(skipped("checkpoint", "no job file names one"))
    else:
        with errors_as_findings("checkpoint", found):
            found.append(_checkpoint(job.spec.model))
    yield from found


def _num_ranks(job: VideoNevaJob | None) -> int:
    """Ranks that want a GPU each; 0: none does."""
    if job is None or job.spec.workers.gpus_per_worker == 0:
        return 0
    return job.spec.model.tensor_parallel_size * job.spec.model.pipeline_parallel_size


def gpus(num_ranks: int) -> Finding:
    """The GPUs that torch sees, for so many ranks."""
    build = f"torch {torch.__version__}"
    if settings().device == "cpu":
        return ok("gpus", f"not used: NEVA_DEVICE is cpu ({build})")
    if not torch.cuda.is_available():
        if DRIVER.exists():
            first = DRIVER.read_text(encoding="utf-8", errors="replace").splitlines()[0]
            advice = "install a torch that is built for its CUDA, or update the driver"
            return problem("gpus", f"a driver is here, but {build} can't use it: {first}", advice)
        if settings().device == "cuda":
            advice = "take another machine, or leave NEVA_DEVICE out"
            return problem("gpus", f"none, and NEVA_DEVICE is cuda ({build})", advice)
        return ok("gpus", f"none: ranks run on the CPU ({build})")
    num = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_properties(n).name for n in range(num)})
    words = f"{num} x {', '.join(names)} ({build}, CUDA {torch.version.cuda})"
    if num < num_ranks:
        return problem(
            "gpus",
            f"{words}, and the job's {num_ranks} ranks need one each",
            "lower model.tensorParallelSize or pipelineParallelSize, or take a larger machine",
        )
    return ok("gpus", words)


def shared_memory(where: Path) -> Finding:
    """Whether prepared media have room in memory that processes share."""
    needed = settings().media_shared_bytes
    try:
        stat = os.statvfs(where)
    except OSError as error:
        return problem("shared memory", f"{where}: {error.strerror}", "mount a tmpfs there")
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        return problem(
            "shared memory",
            f"{where} has {free >> 20} MiB free, prepared media may take {needed >> 20} MiB "
            "(NEVA_MEDIA_SHARED_BYTES)",
            "give it more: workers.shmSize in a job, docker run --shm-size",
        )
    return ok("shared memory", f"{where} has {free >> 20} MiB free")


def _decoders() -> Finding:
    """Which of them load; each in a process of its own, as a broken library may crash it."""
    working: list[str] = []
    broken: list[str] = []
    slow: list[str] = []
    for name in _DECODERS:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        command = [sys.executable, "-c", f"import {name}"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_IMPORT_S, check=False)
        except subprocess.TimeoutExpired:
            slow.append(f"{name} {version} was not loaded after {_IMPORT_S} s")
            continue
        if done.returncode == 0:
            working.append(f"{name} {version}")
        else:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            broken.append(f"{name} {version} does not load: {''.join(last) or done.returncode}")
    bad = [*broken, *slow]
    if bad and not (working and all(words.startswith(_OPTIONAL) for words in bad)):
        advice = "install it again, with the system libraries that it misses"
        if not broken:
            advice = "look again when the machine is less busy"
        return problem("decoders", "; ".join([*bad, *working]), advice)
    if not working:
        return problem("decoders", "none is installed", install_words("worker"))
    return ok("decoders", ", ".join([*working, *bad]))


def _checkpoint(model: Model) -> Finding:
    """Checks all of one that lies here, and what is small of one that does not."""
    parts = find_model(model)
    uris = [uri for uri in (model.uri, model.base_model, model.vision_encoder) if uri]
    if any(uri.startswith("s3://") for uri in uris):
        with small_model_files(parts) as local:
            local.profile()
            local.tokenizer()
        return ok("checkpoint", f"{model.uri}: configuration and tokenizer; weights are not read")
    stages = model.pipeline_parallel_size
    inspect_model(fetch_model(parts, settings().cache_dir), model.precision, stages)
    return ok("checkpoint", f"{model.uri}: whole, every tensor has its shape")
