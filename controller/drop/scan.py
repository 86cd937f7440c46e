"""What lies in a watched prefix → which of it is a drop, and what to do with each. Pure.

A drop is a `*.jsonl` file directly under the prefix, or a folder directly under it that holds
`prompts.jsonl` and the marker. Its job's name is made of its key and ETags, so the same drop is
always the same job, and a changed one another. One pass over the listing: memory grows with the
drops and folders, not with the objects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

JSONL = ".jsonl"
PROMPTS = "prompts.jsonl"

_MAX_PART = 19  # a job's name has 52 characters at most: its children's are longer
_UNFIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing.

    Attributes:
        key: relative to the watched prefix.
        modified_s: the store's LastModified, seconds since the epoch.
        store_s: the store's own clock when it sent the page; None when it does not tell.
    """

    key: str
    etag: str
    size_bytes: int
    modified_s: float
    store_s: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that becomes a job.

    Attributes:
        name: the job's.
        key: of the prompts file, relative to the watched prefix.
        etag: of the prompts file.
        marker: the marker's (key, etag); None for a file.
        version: changes whenever any file of the drop does.
        modified_s: when the latest of its files was written, by the store's clock.
        age_s: how long ago that was by the same clock; None when the store doesn't tell.
    """

    name: str
    key: str
    etag: str
    marker: tuple[str, str] | None
    version: str
    modified_s: float
    age_s: float | None

    @property
    def folder(self) -> str | None:
        """The folder, with its slash; None for a file."""
        return None if self.marker is None else self.key.removesuffix(PROMPTS)


@dataclass(slots=True)
class _Folder:
    prompts: Listed | None = None
    marker: Listed | None = None
    latest: Listed | None = None
    digest: int = 0

    def add(self, listed: Listed, name: str, marker: str) -> None:
        if name == PROMPTS:
            self.prompts = listed
        elif name == marker:
            self.marker = listed
        if self.latest is None or listed.modified_s > self.latest.modified_s:
            self.latest = listed
        self.digest ^= int.from_bytes(_sha256(listed.key, listed.etag, str(listed.size_bytes)))


def find_drops(
    listing: Iterable[Listed], *, base_uri: str, folder_name: str, marker: str, skip: str
) -> list[Drop]:
    """The drops among the objects of a listing, the oldest first.

    Args:
        base_uri: the watched prefix, with its slash.
        folder_name: the DropFolder's.
        skip: prefix of keys that aren't looked at: where done inputs are moved to.
    """
    drops: list[Drop] = []
    folders: dict[str, _Folder] = {}
    for listed in listing:
        if listed.key.startswith(skip):
            continue
        folder, slash, name = listed.key.partition("/")
        if slash:
            folders.setdefault(folder, _Folder()).add(listed, name, marker)
        elif listed.key.endswith(JSONL) and listed.key != JSONL:
            drops.append(_file(listed, base_uri, folder_name))
    for folder, held in folders.items():
        if held.prompts is not None and held.marker is not None and held.latest is not None:
            drops.append(_folder(folder, held, base_uri, folder_name))
    return sorted(drops, key=lambda drop: (drop.modified_s, drop.key))


def may_be_drop(key: str, marker: str) -> bool:
    """Whether a key's arrival can make a drop; a folder's videos come in by the thousand."""
    folder, slash, name = key.partition("/")
    return name in (PROMPTS, marker) if slash else folder.endswith(JSONL)


def _file(listed: Listed, base_uri: str, folder_name: str) -> Drop:
    stem = listed.key.removesuffix(JSONL)
    return Drop(
        name=_job_name(folder_name, stem, base_uri + listed.key, listed.etag),
        key=listed.key,
        etag=listed.etag,
        marker=None,
        version=f"{listed.etag} {listed.size_bytes} {listed.modified_s}",
        modified_s=listed.modified_s,
        age_s=_age_s(listed, listed),
    )


def _folder(folder: str, held: _Folder, base_uri: str, folder_name: str) -> Drop:
    assert held.prompts is not None and held.marker is not None and held.latest is not None
    key, etags = held.prompts.key, (held.prompts.etag, held.marker.etag)
    return Drop(
        name=_job_name(folder_name, folder, base_uri + key, *etags),
        key=key,
        etag=held.prompts.etag,
        marker=(held.marker.key, held.marker.etag),
        version=f"{held.digest:x} {held.latest.modified_s}",
        modified_s=held.latest.modified_s,
        age_s=_age_s(held.latest, held.prompts),
    )


def _age_s(latest: Listed, page: Listed) -> float | None:
    store_s = latest.store_s if latest.store_s is not None else page.store_s
    return None if store_s is None else store_s - latest.modified_s


def _job_name(folder_name: str, stem: str, uri: str, *etags: str) -> str:
    digest = _sha256(uri, *etags).hex()[:12]
    return f"{_part(folder_name, 'drop')}-{_part(stem, 'file')}-{digest}"


def _part(text: str, otherwise: str) -> str:
    """What a name may keep of `text`; a name starts and ends with a letter or digit."""
    return _UNFIT.sub("-", text.lower()).strip("-")[:_MAX_PART].strip("-") or otherwise


def _sha256(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


@dataclass
class Settling:
    """Own observation of drops: since when each has been seen unchanged.

    A drop is settled when it is old enough by the store's own clock, so that neither our clock nor
    a restart matters; or when it was seen unchanged for long enough, which also holds where the
    store tells no time or a LastModified in the future.
    """

    _seen_s: dict[str, tuple[str, float]] = field(default_factory=dict)

    def look(self, drops: Iterable[Drop], now_s: float, settle_s: float) -> dict[str, float]:
        """Seconds that each drop, by key, still has to wait; 0 when it is settled.

        Args:
            now_s: by a clock that never goes back.
        """
        left: dict[str, float] = {}
        for drop in drops:
            version, since_s = self._seen_s.get(drop.key, ("", now_s))
            if version != drop.version:
                since_s = now_s
            self._seen_s[drop.key] = (drop.version, since_s)
            known = max(now_s - since_s, drop.age_s if drop.age_s is not None else 0.0)
            left[drop.key] = max(0.0, settle_s - known)
        return left

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget what is no longer there."""
        for key in self._seen_s.keys() - keys:
            del self._seen_s[key]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a look at the folder leads to.

    Attributes:
        start: drops whose jobs are to be made, in order.
        waiting: how many settled drops found no free slot.
        settling: how many still change, or may.
        look_again_s: when the first of those will have settled; None when none is awaited.
        leftovers: drops that ran before, whose jobs are gone: only their inputs lie there.
    """

    start: tuple[Drop, ...] = ()
    waiting: int = 0
    settling: int = 0
    look_again_s: float | None = None
    leftovers: tuple[Drop, ...] = ()


def decide(
    drops: Iterable[Drop],
    left_s: Mapping[str, float],
    *,
    jobs: Mapping[str, bool],
    ran: Collection[str],
    concurrency: int,
) -> Decisions:
    """Decide on every drop.

    Args:
        left_s: by key, how long a drop still has to settle.
        jobs: the folder's jobs by name, and whether each is still at work.
        ran: names that a job once had: it left something below outputBase.
    """
    free = max(0, concurrency - sum(jobs.values()))
    start: list[Drop] = []
    leftovers: list[Drop] = []
    pauses: list[float] = []
    num_settled = 0
    for drop in drops:
        if drop.name in jobs:
            continue
        if drop.name in ran:
            leftovers.append(drop)
        elif left_s[drop.key] > 0:
            pauses.append(left_s[drop.key])
        else:
            num_settled += 1
            if len(start) < free:
                start.append(drop)
    return Decisions(
        start=tuple(start),
        waiting=num_settled - len(start),
        settling=len(pauses),
        look_again_s=min(pauses, default=None),
        leftovers=tuple(leftovers),
    )
