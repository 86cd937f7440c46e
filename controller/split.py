"""Split: validated rows → packs of shards → the manifest, which is written last and once.

A pack's name tells its content. So the next split after a crash writes the same files, and of two
at the same time, which may find different media there, neither touches what the other's manifest
names. Nothing reads a pack that no manifest names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.forked import num_processes, run_all
from controller.grouping import in_order, starts_of
from controller.intake import Intake
from controller.lines import put_rejected
from controller.parked import ParkedRows
from controller.shard_plan import shard_sizes
from neva.job_file import answer_digest
from neva.ledger import FinishedRow, Ledger, Manifest, ShardPlan, layout
from neva.ledger.records import MARK, marks_sha256
from neva.ledger.shard_input import input_header
from neva.prompts import MediaType
from neva.spec import VideoNevaJob
from neva.store import Store

_MARK = np.dtype([("seq", "<u8"), ("mark", "<u4")])
assert _MARK.itemsize == MARK.size


def split(
    job: VideoNevaJob,
    ledger: Ledger,
    intake: Intake,
    model_digest: str,
    processes: int | None = None,
) -> Manifest:
    """Write the run's shards and manifest. Returns the manifest that holds."""
    plans = _write_shards(job, ledger, intake, processes or num_processes())
    rejected_sha256 = put_rejected(ledger.store, partial(_rejected_rows, intake))
    answers = answer_digest(job.spec)
    identity = "\n".join((ledger.store.base_uri, answers, model_digest, intake.prompts_sha256))
    return ledger.write_manifest(
        Manifest(
            run_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            job=job.model_dump(mode="json", by_alias=True),
            answer_digest=answers,
            model_digest=model_digest,
            prompts_sha256=intake.prompts_sha256,
            num_rows=intake.num_rows,
            num_rejected=intake.num_rejected,
            rejected_sha256=rejected_sha256,
            shards=plans,
        )
    )


def _rejected_rows(intake: Intake) -> Iterator[bytes]:
    """Refused rows in the form of finished ones, so that the merge treats all alike."""
    for seq, line in intake.rejected_lines():
        error = orjson.loads(line)
        yield FinishedRow(seq, str(error["question_id"] or ""), None, error).to_json()


@dataclass(frozen=True, slots=True)
class _Shards:
    """Rows in the order in which they are worked on, and where each shard begins.

    Attributes:
        order: indices of `rows`.
        marks: of the rows in this order, but within each shard in the order of the output.
        starts: first row of each shard, and the number of rows at the end.
        packs: of each shard.
    """

    rows: ParkedRows
    order: NDArray[np.intp]
    marks: NDArray[Any]  # of _MARK
    starts: list[int]
    packs: NDArray[np.uint32]


def _write_shards(
    job: VideoNevaJob, ledger: Ledger, intake: Intake, processes: int
) -> list[ShardPlan]:
    shards = _in_shards(intake.rows, job.spec.shards.max_rows)
    edges = [*starts_of(shards.packs).tolist(), len(shards.packs)]
    packs = [range(first, last) for first, last in pairwise(edges)]
    tasks = [
        partial(_write_packs, ledger, intake, shards, job.spec.media_type, packs[task::processes])
        for task in range(min(processes, len(packs)))
    ]
    plans = [ShardPlan(*plan) for found in run_all(tasks) for plan in found]
    return sorted(plans, key=lambda plan: plan.number)


def _in_shards(rows: ParkedRows, max_rows: int) -> _Shards:
    """Group by media, in the order of their first question, then in input order."""
    order = in_order(rows.media)
    packs = rows.packs.take(order)
    # A pack ends a group, too.
    groups = starts_of(rows.media.take(order).astype(np.uint64) << 32 | packs)
    sizes = np.diff(groups, append=len(order)).tolist()
    starts = [0]
    group_edges = [*starts_of(packs.take(groups)).tolist(), len(groups)]
    for first, last in pairwise(group_edges):
        starts += accumulate(shard_sizes(sizes[first:last], max_rows), initial=starts.pop())
    shard_of = np.repeat(np.arange(len(starts) - 1, dtype=np.uint32), np.diff(starts))
    # Rows are in input order: their index sorts like their seq.
    by_shard = np.empty(len(order), np.uint32)
    by_shard[order] = shard_of
    by_seq = in_order(by_shard)
    marks = np.empty(len(order), _MARK)
    marks["seq"] = rows.places["seq"].take(by_seq)
    marks["mark"] = rows.marks.take(by_seq)
    return _Shards(rows, order, marks, starts, packs.take(np.array(starts[:-1], np.intp)))


def _write_packs(
    ledger: Ledger,
    intake: Intake,
    shards: _Shards,
    media_type: MediaType,
    packs: list[range],
) -> list[tuple[Any, ...]]:
    """The fields of each shard's plan. One pack is written while the next is put together."""
    plans: list[tuple[Any, ...]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="write-packs") as pool:
        writing: Future[None] | None = None
        for numbers in packs:
            inputs = _shard_inputs(intake, shards, media_type, numbers)
            digests = [hashlib.sha256(data).hexdigest() for data in inputs]
            whole = hashlib.sha256("".join(digests).encode()).hexdigest()
            pack = layout.pack(int(shards.packs[numbers.start]), whole)
            offset = 0
            for number, data, digest in zip(numbers, inputs, digests, strict=True):
                first, last = shards.starts[number : number + 2]
                ids_sha256 = marks_sha256(shards.marks[first:last].data)
                plans.append((number, last - first, pack, offset, len(data), digest, ids_sha256))
                offset += len(data)
            if writing is not None:
                writing.result()
            # At once: this thread would have to be waited for between any two writes.
            writing = pool.submit(_write, ledger.store, layout.inputs(pack), b"".join(inputs))
        if writing is not None:
            writing.result()
    return plans


def _shard_inputs(
    intake: Intake, shards: _Shards, media_type: MediaType, numbers: range
) -> list[bytes]:
    """What stands in a pack for each of its shards."""
    start = shards.starts[numbers.start]
    rows = shards.order[start : shards.starts[numbers.stop]]
    parked = intake.lines_of(int(shards.packs[numbers.start]))
    records = list(map(parked.__getitem__, shards.rows.ranks.take(rows).tolist()))
    seqs = shards.rows.places["seq"].take(rows).tolist()
    lines = shards.rows.lines.take(rows).tolist()
    inputs = []
    for number in numbers:
        first, last = shards.starts[number : number + 2]
        here = slice(first - start, last - start)
        header = input_header(media_type, seqs[here], lines[here])
        inputs.append(b"\n".join((header, *records[here], b"")))
    return inputs


def _write(store: Store, key: str, data: bytes) -> None:
    with store.open_write(key) as file:
        file.write(data)
