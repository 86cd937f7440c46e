"""A run that moves: its ledger is written as workers would, part by part, without a model.

python -m tests.controller.ui.moving 10000 /tmp/run 20     rows, folder, rows per second
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

from controller.lines import put_rejected
from neva.ledger import (
    Claim,
    FinishedRow,
    Ledger,
    Manifest,
    PartRef,
    ShardRow,
    error_line,
    layout,
)
from neva.ledger.snapshot import SnapshotWriter
from neva.store import Store, open_store
from neva.timings import write_timings

HOSTILE = "<img src=x onerror=alert(1)></section><script>alert(2)</script>"
_COLOURS = ("crimson", "royalblue", "seagreen", "goldenrod")
_ROWS_A_PART = 8


class MovingRun:
    """A run of `num_rows` rows in shards of `rows_a_shard`, about three rows to a video.

    Args:
        every_fails: of so many rows one has no answer.
        hostile: some answers and messages try to be HTML.
    """

    def __init__(
        self,
        store: Store,
        num_rows: int,
        *,
        rows_a_shard: int = 64,
        every_fails: int = 97,
        hostile: bool = True,
    ) -> None:
        self.ledger = Ledger(store)
        self._draw = random.Random(5)
        self._every_fails = every_fails
        self._hostile = hostile
        self._framed: set[str] = set()
        rows = [self._row(seq) for seq in range(1, num_rows)]
        self.shards = [rows[at : at + rows_a_shard] for at in range(0, len(rows), rows_a_shard)]
        plans = [self.ledger.write_shard(n, shard) for n, shard in enumerate(self.shards)]
        error = error_line(1, None, "InvalidJson", "line 1 is no JSON: unexpected end of data")
        refused = FinishedRow(0, "", None, error)
        sha256 = put_rejected(store, lambda: [refused.to_json()])
        spec = {
            "model": {"uri": "s3://models/video-neva-8b.nemo"},
            "input": {"prompts": "s3://eval/prompts.jsonl"},
            "failure": {"failOnError": 0.5},
            "judge": {"model": "mixtral"},
        }
        job = {"metadata": {"name": "kitchen"}, "spec": spec}
        self.manifest = Manifest(
            "kitchen-5f1d", job, "answers", "model", "prompts", num_rows, 1, sha256, plans
        )
        self.ledger.write_manifest(self.manifest)

    def steps(self) -> Iterator[int]:
        """Writes a part, or a commit; yields how many rows it finished."""
        snapshot = SnapshotWriter(self.ledger.store)
        for number, shard in enumerate(self.shards):
            ids = [row.row_id for row in shard]
            self.ledger.claim(number, Claim(1, "w", f"c{number}", ids))
            refs: list[PartRef] = []
            rows: list[FinishedRow] = []
            for at in range(0, len(shard), _ROWS_A_PART):
                some = [self._finished(row) for row in shard[at : at + _ROWS_A_PART]]
                refs.append(self.ledger.write_part(number, 1, len(refs) + 1, some))
                rows += some
                yield len(some)
            self.ledger.commit(number, 1, refs, rows)
            write_timings(
                self.ledger.store,
                "w",
                {"engine": 40.0, "wait_for_media": 7.5, "wait_for_engine": 2.0, "decode": 21.0},
            )
            snapshot.add(time.time(), number, self.ledger.read_commit(number))
            snapshot.write_if_due(time.time())

    @staticmethod
    def _row(seq: int) -> ShardRow:
        media = f"kitchen/{seq // 3:05}.mp4"
        texts = (
            "What does the person on the left do with the pan?",
            "Which colour is the shape that moves, and where does it go?",
            "Describe the video in one sentence.",
        )
        record = {
            "question_id": seq,
            "video": media,
            "text": texts[seq % 3],
            "category": ("conv", "complex", "detail")[seq % 3],
        }
        return ShardRow(seq, seq + 1, str(seq), texts[seq % 3], media, record)

    def _finished(self, row: ShardRow) -> FinishedRow:
        if row.seq % self._every_fails == 0:
            reason, words = self._draw.choice(
                [
                    ("MediaUnreadable", f"{row.media_name}: moov atom not found"),
                    (
                        "MediaUnreadable",
                        f"{row.media_name}: {HOSTILE if self._hostile else 'no video stream'}",
                    ),
                    ("ContextOverflow", "the prompt has 4,301 tokens; the model takes 4,096"),
                ]
            )
            return FinishedRow(row.seq, row.row_id, None, _error(row, reason, words))
        if row.media_name not in self._framed:
            self._framed.add(row.media_name)
            self.ledger.store.put(layout.frames(row.media_name), self._frames())
        said = self._draw.choice(
            [
                "She tilts the pan, lets the oil run to one side, and sets it down again.",
                "A red circle moves from the left edge to the right, and stops at the middle.",
                "Someone chops onions, wipes the board and turns to the stove.",
                HOSTILE if self._hostile else "Nobody is in the kitchen; the kettle boils.",
            ]
        )
        output = {**row.record, "response": said, "attempt": 1}
        return FinishedRow(row.seq, row.row_id, output, None)

    def _frames(self) -> bytes:
        picture = Image.new("RGB", (96 * 6, 96), "#f4f1ea")
        pen, colour = ImageDraw.Draw(picture), self._draw.choice(_COLOURS)
        at, step = self._draw.randint(5, 30), self._draw.randint(2, 8)
        for frame in range(6):
            x = 96 * frame + at + step * frame
            pen.ellipse((x, 34, x + 26, 60), fill=colour)
            pen.line((96 * frame, 0, 96 * frame, 96), fill="#8d8a83")
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        return data.getvalue()


def _error(row: ShardRow, reason: str, words: str) -> dict[str, object]:
    return error_line(row.line, row.record, reason, words)


def main() -> None:
    num_rows, folder, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    Path(folder).mkdir(parents=True, exist_ok=True)
    run = MovingRun(open_store(folder), num_rows, hostile=False)
    begun_s, done = time.monotonic(), 0
    for rows in run.steps():
        done += rows
        time.sleep(max(0.0, begun_s + done / rate - time.monotonic()))


if __name__ == "__main__":
    main()
