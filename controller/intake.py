"""Validation: every row that can't be answered is found here, before any worker starts.

Reads the prompts file once, then looks every distinct media up. Good rows and bad ones are parked
on disk, the bad ones with line number and reason. What stays in memory of a row is 45 bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.forked import num_processes, run_all
from controller.line_files import LineReader, LineWriter, Places, batches
from controller.media_lookup import missing_media
from controller.parked import ParkedRows, park, parked_lines, to_be_parked
from controller.rejects import reject, reject_doubled
from controller.scan import Asks, Part, Scanned, cut, joined, scan
from neva.errors import ConfigError
from neva.media_store import media_names, open_media
from neva.prompt_columns import media_names_of
from neva.prompts import RESERVED_KEYS_OF_FORMAT, Layout, PromptRules, layout_of
from neva.spec import JobSpec
from neva.store import NotFound, Store, open_object

_BYTES_WORTH_A_PROCESS = 8 << 20
_ROWS_AT_ONCE = 4096

Aside = TypeVar("Aside")
Here = TypeVar("Here")


@dataclass(frozen=True, slots=True)
class Intake:
    """What validation found.

    Attributes:
        num_rows: good and bad.
        rejected: places of the bad rows' lines of errors.jsonl, in the order of the prompts file.
        reader: reads the lines of both.
        folder: where the lines of `rows` are parked for their packs.
    """

    num_rows: int
    rows: ParkedRows
    rejected: Places
    prompts_sha256: str
    reader: LineReader
    folder: Path

    @property
    def num_rejected(self) -> int:
        return len(self.rejected)

    def rejected_lines(self) -> Iterator[tuple[int, bytes]]:
        """(seq, line of errors.jsonl) of the bad rows."""
        return self.reader.each(self.rejected)

    def lines_of(self, pack: int) -> list[bytes]:
        """The lines of a pack's rows by their rank."""
        return parked_lines(self.folder, pack)


@contextmanager
def take_in(
    spec: JobSpec, prompts: Asks, lookups: int, processes: int | None = None
) -> Iterator[Intake]:
    """Validate all prompts of a job. The parked lines go when the block ends.

    Args:
        lookups: media looked up at the same time.
        processes: that read at the same time; None: as many as are worth it.

    Raises:
        ConfigError: the prompts file is too large for its layout, or was changed meanwhile.
        StoreError: it can't be read, or the media can't be looked up now.
    """
    rules = PromptRules(
        spec.media_type,
        spec.inference.insert_media_token,
        RESERVED_KEYS_OF_FORMAT[spec.model.compat.output_format],
        media_names(spec),
    )
    store, key = open_object(spec.input.prompts)
    with tempfile.TemporaryDirectory(prefix="neva-split-") as name:
        folder = Path(name)
        path = _on_this_machine(store, key, folder)
        before = path.stat()
        parts = _parts(path, layout_of(key), processes)
        scans = [
            partial(_scan, part, layout_of(key), rules, prompts, folder, number)
            for number, part in enumerate(parts)
        ]
        found = joined(run_all(scans))
        digest, rows = _both(
            partial(_sha256, path), partial(to_be_parked, found.rows, spec.shards.max_rows), parts
        )
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise ConfigError(f"{spec.input.prompts} was changed while it was read: start again")
        with (
            LineWriter(folder / "late", 2 * len(parts)) as late,
            LineReader([*_paths(folder, len(parts)), late.path]) as reader,
        ):
            check = partial(_late_checks, rows, found, spec, rules, lookups, reader, late)
            _, is_left = _both(partial(park, rows, reader, folder), check, parts)
            rows = rows.only(is_left)
            rejected = _last_of_each([found.bad, late.close()])
            yield Intake(found.num_rows, rows, rejected, digest, reader, folder)


def prompts_sha256(spec: JobSpec) -> str | None:
    """Digest of the prompts file as it is now; None when it is gone."""
    store, key = open_object(spec.input.prompts)
    try:
        with store.open_read(key) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except NotFound:
        return None


def _on_this_machine(store: Store, key: str, folder: Path) -> Path:
    path = store.local_path(key)
    if path is None:
        path = folder / "prompts"
        store.download(key, path)
    elif store.head(key) is None:
        raise NotFound(f"no such file: {path}")
    return path


def _parts(path: Path, layout: Layout, processes: int | None) -> list[Part]:
    if processes is None:
        processes = min(num_processes(), 1 + path.stat().st_size // _BYTES_WORTH_A_PROCESS)
    return cut(path, processes if layout == "jsonl" else 1)


def _both(
    aside: Callable[[], Aside], here: Callable[[], Here], parts: Sequence[Part]
) -> tuple[Aside, Here]:
    """Two things at the same time if the prompts are worth it; `here` may use threads."""
    first, second = run_all([aside, here], len(parts))
    return cast(Aside, first), cast(Here, second)


def _scan(
    part: Part, layout: Layout, rules: PromptRules, prompts: Asks, folder: Path, number: int
) -> Scanned:
    paths = _paths(folder, number + 1)[-2:]
    with LineWriter(paths[0], 2 * number) as rows, LineWriter(paths[1], 2 * number + 1) as bad:
        return scan(part, layout, rules, prompts, rows, bad)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _paths(folder: Path, num_parts: int) -> list[Path]:
    return [folder / f"{kind}-{n}" for n in range(num_parts) for kind in ("rows", "bad")]


def _late_checks(
    rows: ParkedRows,
    found: Scanned,
    spec: JobSpec,
    rules: PromptRules,
    lookups: int,
    reader: LineReader,
    late: LineWriter,
) -> NDArray[np.bool_]:
    """Refuse the rows whose id or media is not good; which rows are left."""
    is_left = reject_doubled(found, rules, reader, late)
    # The first row about a media may be none of those, its media is looked up all the same.
    is_first = rows.media == np.arange(len(rows), dtype=np.uint32)
    firsts = np.flatnonzero(is_first)
    names: list[str] = []
    places = rows.places.take(firsts)
    for batch in batches(places, _ROWS_AT_ONCE):
        names += media_names_of(reader.read(places[batch]), rules)
    problems = missing_media(open_media(spec), names, lookups)
    by_media = {
        number: problems[name]
        for number, name in zip(firsts.tolist(), names, strict=True)
        if name in problems
    }
    if not by_media:
        return is_left
    is_lost = is_left & np.isin(rows.media, np.fromiter(by_media, np.uint32, len(by_media)))
    lost = rows.only(is_lost)
    for (seq, line), number, media_number in zip(
        reader.each(lost.places), lost.lines.tolist(), lost.media.tolist(), strict=True
    ):
        problem = by_media[media_number]
        reject(late, seq, number, orjson.loads(line), problem.reason, problem.message)
    return is_left & ~is_lost


def _last_of_each(places: Sequence[Places]) -> Places:
    """In the order of the prompts file; of several lines for one row, the one written last."""
    together = np.concatenate(places)
    together = together[np.argsort(together["seq"], kind="stable")]
    is_last = np.ones(len(together), np.bool_)
    is_last[:-1] = together["seq"][1:] != together["seq"][:-1]
    return together[is_last]
