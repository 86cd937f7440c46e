"""The Celery worker of a pod: a prefork pool whose children each work on one shard at a time.

Started by the supervisor as `python -m worker.consumer CONFIG`. The children hold no CUDA and
import no torch; they decode, and talk to the engine over its socket. A child that dies takes its
shard's lease with it, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis
import structlog
from celery import Task
from celery.exceptions import Reject
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown, worker_ready

from neva import queue, tracing
from neva.errors import ConfigError, NevaError
from neva.lease import Leases
from neva.ledger import Ledger, Manifest, ShardPlan
from neva.ledger.control import Control
from neva.logs import configure_logging, log_fields
from neva.media_store import open_media
from neva.metrics import of_workers
from neva.metrics.counting import count, write_counts
from neva.process import die_with_parent
from neva.quantization import quantization_record
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.settings import Settings, settings
from neva.spec import JobSpec, VideoNevaJob
from neva.store import open_store
from neva.trouble import report_trouble
from worker.answering import Answerer
from worker.config import WorkerConfig, read_worker_config
from worker.engine.client import EngineClient
from worker.engine_turn import EngineTurn
from worker.media.ahead import MediaAhead
from worker.media.decoder import Decoders
from worker.media.limits import MediaLimits
from worker.media.prepare import MediaPreparer
from worker.media.preprocess import from_profile
from worker.media.shared import SharedMedia
from worker.media.wire import DecoderSetup
from worker.outputs import OutputWriter
from worker.sampling_params import sampling_params
from worker.shard import Outcome, ShardWorker
from worker.stage_seconds import StageSeconds
from worker.timings_writer import TimingsWriter

log = structlog.get_logger()

SHARED_FOLDER = "shared"
_MAX_DECODERS = 4
_SIGN_OF_LIFE_INTERVAL_S = 1.0
_ORDER_LOOK_INTERVAL_S = 1.0


def read_run(output_uri: str) -> tuple[Manifest, JobSpec]:
    """The manifest of the run a worker serves, and its spec.

    Raises:
        ConfigError: there is none.
    """
    manifest = Ledger(open_store(output_uri)).read_manifest()
    if manifest is None:
        raise ConfigError(f"{output_uri}: no manifest.json there; the job was never split")
    return manifest, VideoNevaJob.model_validate(manifest.job).spec


class Child:
    """What one pool process keeps between shards. Made after the fork, on the first message."""

    def __init__(self, config: WorkerConfig) -> None:
        manifest, spec = read_run(config.output_uri)
        self.run_id = manifest.run_id
        self._plans: dict[int, ShardPlan] = {plan.number: plan for plan in manifest.shards}
        profile = config.model.profile()
        tokenizer = config.model.tokenizer()
        output = open_store(config.output_uri)
        self._control = Control(output)
        client = queue.connect(config.redis_url)
        prompts = RowPrompts(spec, profile, tokenizer)
        limits = MediaLimits.from_settings(settings())
        seconds = StageSeconds()
        preparer = MediaPreparer(
            media=open_media(spec),
            output=output,
            decoders=Decoders(
                DecoderSetup(prompts.rules, from_profile(profile), limits),
                num_decoders(settings()),
            ),
            limits=limits,
            downloads_dir=config.scratch_dir,
            pixels_dir=config.pixels_dir,
            shared=SharedMedia(config.pixels_dir / SHARED_FOLDER, settings().media_shared_bytes),
            seconds=seconds,
        )
        answerer = Answerer(
            engine=EngineClient(config.engine_socket),
            turn=EngineTurn(config.scratch_dir),
            media=MediaAhead(preparer, num_decoders(settings()), settings().media_ahead),
            prompts=prompts,
            outputs=OutputWriter(
                spec,
                profile,
                tokenizer,
                prompts,
                manifest.model_digest,
                _quantization(config, spec),
            ),
            sampling=sampling_params(spec, prompts.stop_strings),
            rows_in_flight=settings().rows_in_flight,
            max_attempts=config.max_attempts,
            engine_start_s=settings().engine_start_s,
            engine_end_file=config.engine_end_file,
            seconds=seconds,
        )
        self._next_look_s = float("-inf")
        self._timings = TimingsWriter(output, f"{config.worker_id}-{os.getpid()}", seconds.total)
        self._worker = ShardWorker(
            config=config,
            settings=settings(),
            ledger=Ledger(output),
            leases=Leases(client, manifest.run_id, settings().lease_ttl_s),
            client=client,
            answerer=answerer,
            max_attempts=config.max_attempts,
        )

    def run(self, shard: int, delivery_tag: str | None) -> Outcome:
        if time.monotonic() >= self._next_look_s:
            if self._control.look().order is not None:
                # Suspended or cancelled. Whoever resumes the run sends its messages anew.
                return Outcome.NOTHING_TO_DO
            # Not at each of many quick shards: the supervisor looks, too, and drains.
            self._next_look_s = time.monotonic() + _ORDER_LOOK_INTERVAL_S
        try:
            return self._worker.run(self._plans[shard], delivery_tag)
        finally:
            self._timings.shard_ended()

    def close(self) -> None:
        """At the process's end."""
        self._timings.close()


def num_decoders(settings: Settings) -> int:
    """Media files that one child decodes at a time."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    share = max(1, num_cores // settings.shards_in_flight)
    return settings.decoders or min(share, _MAX_DECODERS)


def _quantization(config: WorkerConfig, spec: JobSpec) -> dict[str, Any]:
    """What the outputs say of the model's quantization; {} of one that is as it was."""
    if not spec.model.quantization.enable:
        return {}
    return quantization_record(spec.model.quantization, config.calibration_file.read_bytes())


def main() -> None:
    config = read_worker_config(Path(sys.argv[1]))
    setup_logging.connect(_keep_logging, weak=False)
    consumer_pid = os.getpid()

    def tie_to_consumer(**_: Any) -> None:
        die_with_parent(consumer_pid)

    def leave(**_: Any) -> None:
        if child.cache_info().currsize:
            child().close()
        tracing.flush()

    worker_process_init.connect(tie_to_consumer, weak=False)
    worker_process_shutdown.connect(leave, weak=False)
    configure_logging()
    die_with_parent(config.supervisor_pid)
    manifest, _ = read_run(config.output_uri)
    log_fields(job=manifest.job["metadata"]["name"], run=manifest.run_id)
    app = queue.make_app(config.redis_url, manifest.run_id)
    child = lru_cache(maxsize=1)(lambda: Child(config))
    client = queue.connect(config.redis_url)

    def run_shard(task: Task, run: str, shard: int) -> None:
        if config.draining:
            raise Reject("draining", requeue=True)
        if run != manifest.run_id:
            log.warning("message of another run dropped", run=run)
            return
        try:
            with config.working_on(shard):
                outcome = child().run(shard, task.request.properties.get("delivery_tag"))
        except NevaError as error:
            # The controller sees a shard without lease and sends it again.
            log.error("shard left", shard=shard, reason=error.reason, error=error.message)
            _count_left(error.reason)
            with contextlib.suppress(redis.RedisError):
                report_trouble(client, manifest.run_id, error)
            return
        except redis.RedisError as error:
            log.error("shard left", shard=shard, error=str(error))
            _count_left(Reason.BROKER_UNAVAILABLE)
            return
        log.info("shard", shard=shard, outcome=outcome.value)
        count(of_workers.SHARDS, outcome.name.lower())
        write_counts()
        if outcome is Outcome.DRAINED:
            raise Reject("draining", requeue=True)

    def give_signs_of_life(sender: Any, **_: Any) -> None:
        # Sent again after each reconnection. The timer turns with the loop that takes messages; it
        # first rings after one interval, and a process may be stopped before.
        config.consuming()
        while signs:
            sender.timer.cancel(signs.pop())
        signs.append(sender.timer.call_repeatedly(_SIGN_OF_LIFE_INTERVAL_S, config.consuming))

    signs: list[Any] = []
    worker_ready.connect(give_signs_of_life, weak=False)
    app.task(bind=True, name=queue.TASK_NAME)(run_shard)
    arguments = [
        "--quiet",
        "worker",
        "--pool=prefork",
        f"--concurrency={settings().shards_in_flight}",
    ]
    arguments += [f"--hostname={config.worker_id}@%h", "--loglevel=WARNING"]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(arguments)


def _count_left(reason: Reason) -> None:
    count(of_workers.SHARDS, "left")
    count(of_workers.SHARDS_LEFT, reason)
    write_counts()


def _keep_logging(**_: Any) -> None:
    """Being connected is what keeps Celery from replacing our logging."""


if __name__ == "__main__":
    main()
