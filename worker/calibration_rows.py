"""Which prompts a quantization is calibrated on: the same for every worker and attempt of a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest
from neva.media_store import media_names
from neva.prompts import BadRow, layout_of, read_prompts
from neva.spec import JobSpec
from neva.store import open_object

_ROWS_LOOKED_AT = 16  # for each that is wanted


class Asked(NamedTuple):
    """A question about a media, and its answer where that is known."""

    question: str
    media_name: str
    answer: str = ""


def candidates(spec: JobSpec, ledger: Ledger, manifest: Manifest) -> list[Asked]:
    """Prompts to calibrate on, the best first: the first about each media before all second ones.

    From the job's own beginning or from `calibrationPrompts`; more than are wanted where there
    are more, for some may turn out to be unreadable.

    Raises:
        ConfigError: a line of `calibrationPrompts` is no prompt.
    """
    quantization = spec.model.quantization
    most = quantization.calibration_rows * _ROWS_LOOKED_AT
    if quantization.calibration_prompts is None:
        return spread(_own_rows(ledger, manifest, most))
    return spread(_rows_of(quantization.calibration_prompts, spec, most))


def spread(rows: Iterable[Asked]) -> list[Asked]:
    """Order by how many questions about the same media came before, else as they come."""
    seen: Counter[str] = Counter()
    numbered: list[tuple[int, int, Asked]] = []
    for row in rows:
        numbered.append((seen[row.media_name], len(numbered), row))
        seen[row.media_name] += 1
    return [row for _, _, row in sorted(numbered, key=lambda item: item[:2])]


def _own_rows(ledger: Ledger, manifest: Manifest, most: int) -> Iterator[Asked]:
    num_rows = 0
    for plan in manifest.shards:
        for row in ledger.read_shard(plan):
            yield Asked(row.question, row.media_name)
            num_rows += 1
            if num_rows == most:
                return


def _rows_of(uri: str, spec: JobSpec, most: int) -> Iterator[Asked]:
    store, key = open_object(uri)
    with store.open_read(key) as stream:
        rows = read_prompts(
            stream,
            spec.media_type,
            spec.inference.insert_media_token,
            layout=layout_of(key),
            reserved_keys=frozenset(),
            media_name=media_names(spec),
        )
        for number, row in enumerate(rows):
            if number == most:
                return
            if isinstance(row, BadRow):
                raise ConfigError(f"{uri}:{row.line}: {row.message}", reason=row.reason)
            # An earlier run's outputs have answers, whose tokens a model will see, too.
            answer = row.record.get("response")
            yield Asked(row.question, row.media_name, answer if isinstance(answer, str) else "")
