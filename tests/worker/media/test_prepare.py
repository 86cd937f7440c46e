"""From a name in a store to pixels on shared memory, with files made here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neva.errors import RowError
from neva.ledger import layout
from neva.media_rules import MediaRules
from neva.reasons import Reason
from neva.store import NotFound, Store, StoreDenied, StoreUnavailable, open_store
from worker.media.decoder import Decoders
from worker.media.limits import MediaLimits
from worker.media.prepare import MediaPreparer
from worker.media.preprocess import ClipPreprocessor
from worker.media.shared import SharedMedia
from worker.media.wire import DecoderSetup

RULES = MediaRules("image", 1, None, "rgb")
LIMITS = MediaLimits(max_bytes=10_000)
PREPROCESS = ClipPreprocessor(32, (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def write_image(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    Image.new("RGB", size, (250, 10, 10)).save(path)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(DecoderSetup(RULES, PREPROCESS, LIMITS)) as decoders:
        yield decoders


@pytest.fixture
def preparer(tmp_path: Path, store: Store, decoders: Decoders) -> MediaPreparer:
    """Media from every kind of store, output in a folder."""
    for name in ("media", "work"):
        (tmp_path / name).mkdir()
    return MediaPreparer(
        media=store,
        output=open_store(str(tmp_path / "out")),
        decoders=decoders,
        limits=LIMITS,
        downloads_dir=tmp_path / "work",
        pixels_dir=tmp_path / "work",
        shared=SharedMedia(tmp_path / "shared", 1 << 20),
    )


def upload(preparer: MediaPreparer, name: str, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "media" / "picture.png"
    write_image(path, size)
    preparer.media.put(name, path.read_bytes())


def test_an_image_becomes_pixels_and_a_picture_for_the_report(
    preparer: MediaPreparer, tmp_path: Path
) -> None:
    upload(preparer, "sub dir/ä%20.png", tmp_path, (64, 48))
    media = preparer.prepare("sub dir/ä%20.png")
    assert media.ref.shape == (1, 3, 32, 32)
    pixels = np.fromfile(media.ref.path, dtype=np.float32).reshape(media.ref.shape)
    assert pixels[0, 0].max() > 0.9 > -0.9 > pixels[0, 1].min()
    assert media.frames == (0,)
    strip = preparer.output.get(layout.frames("sub dir/ä%20.png"))
    assert Image.open(io.BytesIO(strip)).size == (128, 96)
    assert [p.suffix for p in (tmp_path / "work").rglob("*") if p.is_file()] == [".f32"]


def test_equal_content_has_one_key_whatever_it_is_called(
    preparer: MediaPreparer, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        upload(preparer, name, tmp_path, (64, 48))
    first, second = preparer.prepare("a.png").ref, preparer.prepare("b.png").ref
    assert first.key == second.key
    assert first.path != second.path, "each has an owner that deletes it"


def test_an_extreme_shape_is_answered_too(preparer: MediaPreparer, tmp_path: Path) -> None:
    upload(preparer, "wide.png", tmp_path, (8192, 8))
    assert preparer.prepare("wide.png").ref.shape == (1, 3, 32, 32)


def test_a_name_longer_than_a_file_system_allows_is_fetched(
    preparer: MediaPreparer, tmp_path: Path
) -> None:
    name = "x" * 300 + ".png"
    if preparer.media.base_uri.startswith("file:"):
        with pytest.raises(RowError):  # no such file can exist there
            preparer.prepare(name)
        return
    upload(preparer, name, tmp_path, (64, 48))
    assert preparer.prepare(name).ref.shape == (1, 3, 32, 32)


def test_a_file_that_is_too_large_is_not_fetched(
    preparer: MediaPreparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparer.media.put("large.png", bytes(10_001))
    monkeypatch.setattr(type(preparer.media), "download", None)
    with pytest.raises(RowError, match=r"large\.png has 10001 bytes; the limit is 10000") as caught:
        preparer.prepare("large.png")
    assert caught.value.reason == Reason.MEDIA_TOO_LARGE


def test_what_is_no_image_fails_its_row(preparer: MediaPreparer) -> None:
    preparer.media.put("text.png", b"no image at all")
    with pytest.raises(RowError, match=r"text\.png") as caught:
        preparer.prepare("text.png")
    assert caught.value.reason == Reason.MEDIA_UNREADABLE


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFound("gone"), Reason.MEDIA_NOT_FOUND),
        (StoreDenied("archived"), Reason.STORE_DENIED),
    ],
)
def test_media_that_can_not_be_had_fails_its_row(
    preparer: MediaPreparer, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(preparer.media), "local_path", refuse)
    with pytest.raises(RowError) as caught:
        preparer.prepare("a.png")
    assert caught.value.reason == reason


def test_a_store_that_is_down_is_no_rows_fault(
    preparer: MediaPreparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise StoreUnavailable("503")

    monkeypatch.setattr(type(preparer.media), "local_path", unavailable)
    with pytest.raises(StoreUnavailable):
        preparer.prepare("a.png")
