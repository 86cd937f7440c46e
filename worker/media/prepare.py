"""From a media name to pixels that the engine's ranks can read, and a picture for the report."""

from __future__ import annotations

import hashlib
import itertools
import math
import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neva import stages, tracing
from neva.errors import RowError
from neva.ledger import layout
from neva.media_store import MediaStore
from neva.metrics import of_workers
from neva.metrics.counting import count
from neva.reasons import Reason
from neva.store.base import NotFound, Store, StoreError
from worker.engine.protocol import MediaRef
from worker.media import wire
from worker.media.decoder import Decoders, Fetch
from worker.media.limits import MediaLimits
from worker.media.ranged import Range, RangedDownload
from worker.media.shared import PreparedMedia, SharedMedia
from worker.stage_seconds import StageSeconds

_MAX_NAME_BYTES: Final = 200
_FLOAT_BYTES: Final = 4
_WHOLE_BYTES: Final = 4 << 20
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class MediaPreparer:
    """Fetches media and has them decoded and preprocessed. Safe between threads.

    Attributes:
        media: store of mediaBasePath.
        output: store of the run, for the frame strips.
        downloads_dir, pixels_dir: private to this worker.
        whole_bytes: files up to this size are fetched as a whole, larger ones in pieces.
        shared: what this worker's processes have prepared.
        seconds: where the time goes.
    """

    media: MediaStore
    output: Store
    decoders: Decoders
    limits: MediaLimits
    downloads_dir: Path
    pixels_dir: Path
    shared: SharedMedia
    seconds: StageSeconds = field(default_factory=StageSeconds)
    whole_bytes: int = _WHOLE_BYTES

    def prepare(self, name: str) -> PreparedMedia:
        """Fetch, decode and preprocess one file, unless this worker just did.

        Raises:
            RowError: the file is no usable media, or this one can't be had.
            StoreError: a store can't be had now (retryable).
        """
        # The process id lets the supervisor sweep up after a child that was killed.
        own = self.pixels_dir / f"{os.getpid()}-{next(_counter)}.f32"
        num_made = 0

        def make() -> PreparedMedia:
            nonlocal num_made
            num_made += 1
            return self._prepare(name, own)

        prepared = self.shared.get(name, own, make)
        count(of_workers.MEDIA, "prepared" if num_made else "shared")
        return prepared

    def _prepare(self, name: str, own: Path) -> PreparedMedia:
        half = own.with_suffix(".half")
        try:
            with tracing.span("decode", media=name), self._local_file(name) as (path, fetch):
                done, strip = self.decoders.read(path, half, fetch)
            self.seconds.add(stages.DECODE, done.decode_s)
            self.seconds.add(stages.PREPROCESS, done.preprocess_s)
            key = _checked_digest(half, done, name)
            half.rename(own)
        finally:
            half.unlink(missing_ok=True)
        if strip:
            self.output.put(layout.frames(name), strip)
        return PreparedMedia(MediaRef(key, str(own), done.shape), done.frames, done.decoder)

    @contextmanager
    def _local_file(self, name: str) -> Iterator[tuple[Path, Fetch | None]]:
        """Where the file lies, and how to get its bytes there if they aren't yet."""
        try:
            path = self.media.local_path(name)
            if path is not None:
                yield path, None
                return
            folder = self.downloads_dir / f"{os.getpid()}-download" / str(next(_counter))
            folder.mkdir(parents=True)
            try:
                yield self._download(name, folder / _local_name(name))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except StoreError as error:
            if error.retryable:
                raise
            # It was there when the job was validated.
            missing = isinstance(error, NotFound)
            reason = Reason.MEDIA_NOT_FOUND if missing else error.reason
            raise RowError(error.message, reason=reason) from error

    def _download(self, name: str, target: Path) -> tuple[Path, Fetch | None]:
        with self.seconds.measure(stages.DOWNLOAD):
            info = self.media.head(name)
            if info is not None:
                self.limits.check_bytes(name, info.size_bytes)
            if info is None or info.size_bytes <= self.whole_bytes:
                self.media.download(name, target)
                return target, None
        pieces = RangedDownload(self.media, name, target, info.size_bytes)

        def fetch(ranges: Sequence[Range]) -> None:
            with self.seconds.measure(stages.DOWNLOAD):
                pieces.fetch(ranges)

        return target, fetch


def _local_name(name: str) -> str:
    """The file keeps its name: users read it in errors."""
    own = Path(name).name
    if len(own.encode()) <= _MAX_NAME_BYTES:
        return own
    return hashlib.sha256(name.encode()).hexdigest()[:16] + Path(name).suffix[:16]


def _checked_digest(pixels: Path, done: wire.Done, name: str) -> str:
    """Digest of the content: equal pixels share their features, whatever they are called.

    Raises:
        RowError: DECODER_CRASHED, the file is not what the decoder said.
    """
    num_bytes = math.prod(done.shape) * _FLOAT_BYTES
    with pixels.open("rb") as file:
        if os.fstat(file.fileno()).st_size != num_bytes or len(done.frames) != done.shape[0]:
            words = f"{name} can't be decoded: the decoder wrote something else than it says"
            raise RowError(words, reason=Reason.DECODER_CRASHED)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return hashlib.blake2b(content, digest_size=16).hexdigest()
