"""Split: validated rows → packs of shards → the manifest, which is written last and once.

Packs written before a crash are overwritten by the next split with the same bytes; nothing reads
them until a manifest names their digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.forked import num_processes, run_all
from controller.intake import Intake
from controller.lines import put_lines
from controller.scan import GoodRows
from controller.shard_plan import shard_sizes
from neva.job_file import answer_digest
from neva.ledger import FinishedRow, Ledger, Manifest, ShardPlan, layout
from neva.ledger.records import MARK, marks_sha256
from neva.ledger.shard_input import input_header
from neva.prompts import MediaType
from neva.spec import VideoNevaJob

_PACK_BYTES = 8 << 20  # held in memory while it is written
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
    rejected_sha256 = put_lines(ledger.store, layout.REJECTED, _rejected_rows(intake))
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
    """

    rows: GoodRows
    order: NDArray[np.uint32]
    marks: NDArray[Any]  # of _MARK
    starts: list[int]


def _write_shards(
    job: VideoNevaJob, ledger: Ledger, intake: Intake, processes: int
) -> list[ShardPlan]:
    shards = _in_shards(intake.rows, job.spec.shards.max_rows)
    packs = _packs(shards)
    tasks = [
        partial(_write_packs, ledger, intake, shards, job.spec.media_type, packs, task, processes)
        for task in range(min(processes, len(packs)))
    ]
    plans = [plan for found in run_all(tasks) for plan in found]
    return sorted(plans, key=lambda plan: plan.number)


def _in_shards(rows: GoodRows, max_rows: int) -> _Shards:
    """Group by media, in the order of their first question, then in input order."""
    order = np.argsort(rows.media, kind="stable").astype(np.uint32)
    grouped = rows.media[order]
    ends = np.append(np.flatnonzero(np.diff(grouped)) + 1, len(order))
    sizes = np.diff(np.concatenate([[0], ends])) if len(order) else np.empty(0, np.int64)
    starts = [0, *accumulate(shard_sizes(sizes.tolist(), max_rows))]
    shard_of = np.repeat(np.arange(len(starts) - 1, dtype=np.uint32), np.diff(starts))
    # Rows are in input order: their index sorts like their seq.
    by_seq = order[np.argsort(shard_of.astype(np.uint64) << 32 | order)]
    marks = np.empty(len(order), _MARK)
    marks["seq"] = rows.places["seq"][by_seq]
    marks["mark"] = rows.marks[by_seq]
    return _Shards(rows, order, marks, starts)


def _packs(shards: _Shards) -> list[range]:
    """Shards of each pack: a function of the rows alone, so that every split writes the same."""
    ends = np.cumsum(shards.rows.places["size"][shards.order], dtype=np.int64)
    num_shards = len(shards.starts) - 1
    if not num_shards:
        return []
    pack_of = (ends[np.array(shards.starts[1:]) - 1] - 1) // _PACK_BYTES
    edges = [0, *(np.flatnonzero(np.diff(pack_of)) + 1).tolist(), num_shards]
    return [range(first, last) for first, last in pairwise(edges)]


def _write_packs(
    ledger: Ledger,
    intake: Intake,
    shards: _Shards,
    media_type: MediaType,
    packs: list[range],
    task: int,
    num_tasks: int,
) -> list[ShardPlan]:
    plans = []
    for pack in range(task, len(packs), num_tasks):
        offset = 0
        with ledger.store.open_write(layout.inputs(pack)) as file:
            first_of_pack = shards.starts[packs[pack].start]
            rows = shards.order[first_of_pack : shards.starts[packs[pack].stop]]
            places, lines = shards.rows.places.take(rows), shards.rows.lines[rows].tolist()
            records, all_seqs = intake.reader.read(places), places["seq"].tolist()
            for number in packs[pack]:
                first, last = shards.starts[number : number + 2]
                here = slice(first - first_of_pack, last - first_of_pack)
                header = input_header(media_type, all_seqs[here], lines[here])
                data = b"".join((header, *records[here]))
                file.write(data)
                digest = hashlib.sha256(data).hexdigest()
                ids_sha256 = marks_sha256(shards.marks[first:last].data)
                plan = ShardPlan(number, last - first, pack, offset, len(data), digest, ids_sha256)
                plans.append(plan)
                offset += len(data)
    return plans
