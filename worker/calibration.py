"""One process that finds what a job's quantization goes by: `python -m worker.calibration`.

The supervisor starts it before the engine when the ledger has no calibration yet. It decodes the
job's first media, runs their prompts through the model and writes the result to the ledger if
absent: whoever is first decides for all workers and retries. Media and torch in one process:
when it dies, nothing else does, and it is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import structlog

from neva.errors import ConfigError, NevaError, RowError
from neva.ledger import Ledger, Manifest
from neva.logs import configure_logging
from neva.media_store import open_media
from neva.process import die_with_parent
from neva.row_prompt import RowPrompts
from neva.settings import settings
from neva.spec import JobSpec
from neva.spec_model import Quantization
from neva.store import open_store
from worker.calibration_rows import candidates
from worker.config import CALIBRATION_ERROR_FILE, WorkerConfig, read_worker_config
from worker.consumer import read_run
from worker.engine import distributed
from worker.engine.device import DTYPE_OF_PRECISION, choose_device
from worker.engine.last_words import last_words
from worker.engine.launch import DeviceKind
from worker.engine.quantization.awq import Awq
from worker.engine.quantization.calibrate import CalibrationPrompt, calibrate
from worker.engine.quantization.method import Method
from worker.engine.quantization.table import to_bytes
from worker.media.decoder import Decoders
from worker.media.limits import MediaLimits
from worker.media.prepare import MediaPreparer
from worker.media.preprocess import from_profile
from worker.media.shared import SharedMedia
from worker.media.wire import DecoderSetup

log = structlog.get_logger()


def find_calibration(config: WorkerConfig, device: DeviceKind) -> bytes:
    """Calibrate the run that `config` names, and fix the result in its ledger.

    Returns the calibration that holds.

    Raises:
        ConfigError: the model can't be used, or none of the prompts.
        StoreError: a store can't be had now.
    """
    manifest, spec = read_run(config.output_uri)
    ledger = Ledger(open_store(config.output_uri))
    pixels: set[Path] = set()
    try:
        prompts = _prompts(config, spec, ledger, manifest, pixels)
        found = _calibrate(config, spec, prompts, device)
    finally:
        for path in pixels:
            path.unlink(missing_ok=True)
    return ledger.fix_calibration(found)


def _calibrate(
    config: WorkerConfig, spec: JobSpec, prompts: list[CalibrationPrompt], device: DeviceKind
) -> bytes:
    log.info("calibrating", rows=len(prompts), media=len({p.media.key for p in prompts}))
    rendezvous = config.scratch_dir / f"{os.getpid()}-calibration"
    ranks = distributed.join(0, 1, choose_device(device, 0, 1), rendezvous)

    def tell(layer: int) -> None:
        config.calibration_progress_file.touch()
        log.info("calibrated", layer=layer)

    return to_bytes(
        calibrate(
            config.model,
            DTYPE_OF_PRECISION[spec.model.precision],
            prompts,
            _method(spec.model.quantization),
            ranks,
            tell,
        )
    )


def _method(quantization: Quantization) -> Method:
    if quantization.algorithm == "awq":
        return Awq(quantization.group_size)
    # Here, because it needs a package that is not always there.
    from worker.engine.quantization.eight_bits import ModelOpt

    return ModelOpt(quantization.algorithm)


def _prompts(
    config: WorkerConfig, spec: JobSpec, ledger: Ledger, manifest: Manifest, pixels: set[Path]
) -> list[CalibrationPrompt]:
    """As many as the job wants, and there are. Files of pixels are added to `pixels`."""
    prompts = []
    for prompt in _usable(config, spec, ledger, manifest, pixels):
        prompts.append(prompt)
        if len(prompts) == spec.model.quantization.calibration_rows:
            break
    if not prompts:
        source = spec.model.quantization.calibration_prompts or spec.input.prompts
        raise ConfigError(f"{source}: no prompt in it can be calibrated on; the log says why")
    return prompts


def _usable(
    config: WorkerConfig, spec: JobSpec, ledger: Ledger, manifest: Manifest, pixels: set[Path]
) -> Iterator[CalibrationPrompt]:
    """Prompts whose media can be read. Which can't is a property of the file, never of the time."""
    profile = config.model.profile()
    tokenizer = config.model.tokenizer()
    rules = RowPrompts(spec, profile, tokenizer)
    limits = MediaLimits.from_settings(settings())
    setup = DecoderSetup(rules.rules, from_profile(profile), limits)
    with Decoders(setup) as decoders:
        media = MediaPreparer(
            media=open_media(spec),
            output=open_store(str(config.scratch_dir / "calibration-frames")),
            decoders=decoders,
            limits=limits,
            downloads_dir=config.scratch_dir,
            pixels_dir=config.pixels_dir,
            shared=SharedMedia(config.scratch_dir / "calibration-media", 0),
        )
        prepare = lru_cache(maxsize=None)(media.prepare)  # many prompts may be about one video
        for asked in candidates(spec, ledger, manifest):
            try:
                prompt = rules.build(asked.question)
                prepared = prepare(asked.media_name)
            except RowError as error:
                if error.retryable:
                    raise
                log.warning("not calibrated on", media=asked.media_name, error=error.message)
                continue
            config.calibration_progress_file.touch()
            pixels.add(Path(prepared.ref.path))
            answer_ids = tokenizer.encode(asked.answer)[: spec.inference.tokens_to_generate]
            after_ids = (*prompt.after_ids, *answer_ids)
            yield CalibrationPrompt(prompt.before_ids, after_ids, prepared.ref)


def main() -> int:
    """Entry point; the exit code is that of an engine's rank."""
    configure_logging()
    parser = argparse.ArgumentParser(prog="python -m worker.calibration")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), required=True)
    arguments = parser.parse_args()
    config = read_worker_config(arguments.config)
    die_with_parent(config.supervisor_pid)
    try:
        data = find_calibration(config, arguments.device)
        half = config.calibration_file.with_suffix(".half")
        half.write_bytes(data)
        half.rename(config.calibration_file)
    except Exception as error:  # noqa: BLE001  (the process's last handler: say why, then end)
        code, words = last_words(error)
        if not isinstance(error, NevaError):
            traceback.print_exc()
        log.error("not calibrated", reason=words.reason, error=words.message)
        with contextlib.suppress(OSError):
            line = f"{words.reason}: {words.message}"
            (config.scratch_dir / CALIBRATION_ERROR_FILE).write_text(line, encoding="utf-8")
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
