"""What an attacker can put into a prompts file or a media file, and what happens.

Tricks with names are tried against a whole job in `tests/neva/test_media_names.py` (each form of a
way out), `tests/neva/test_media_store.py` (`input.allowAbsolute`), and here (links). Tricks inside
files are all here: a secret lies beside the media, and a server listens; neither may be touched.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neva.errors import RowError
from neva.media_rules import Decoder, MediaRules
from neva.reasons import Reason
from neva.store import StoreDenied, open_store
from tests.worker.media.videos import write_video
from worker.media.clip import read_clip
from worker.media.containers import demuxer_of
from worker.media.decode import decord_is_installed
from worker.media.limits import MediaLimits
from worker.media.preprocess import ClipPreprocessor

PREPROCESS = ClipPreprocessor(32, (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DECODERS: tuple[Decoder, ...] = ("auto", "pyav", *(["decord"] if decord_is_installed() else []))  # type: ignore[assignment]


def read(path: Path, decoder: Decoder = "auto") -> None:
    read_clip(path, MediaRules("video", 2, None, "rgb", decoder), PREPROCESS, MediaLimits())


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video that the attacker may not see: pixels of it in an answer would be a leak."""
    (tmp_path / "private").mkdir()
    return write_video(tmp_path / "private" / "secret.mp4", 5)


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """(port, connections seen) of a server that nobody may call."""
    seen: list[str] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server.getsockname()[1], seen
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return
        seen.append("called")
        connection.close()


# ---- files that name other files or addresses ----

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n",
    "hls behind a byte order mark": "\ufeff#EXTM3U\n#EXTINF:4,\n{target}\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat without its first line": "file '{target}'\n",
    "session description": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    "dash": "<?xml version='1.0'?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>",
    "smil": "<smil><body><video src='{target}'/></body></smil>",
    "pls": "[playlist]\nFile1={target}\n",
    "subfile in a name": "subfile,,start,0,end,0,,:{target}",
    "image sequence": "P6 %03d.ppm {target}",
}
SUFFIXES = (".mp4", ".m3u8", ".txt", ".sdp", ".ffconcat", ".mpd")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS.keys())
def test_a_playlist_is_refused_whatever_it_is_called(
    tmp_path: Path, secret: Path, text: str, decoder: Decoder
) -> None:
    with listening() as (port, calls):
        for target in (str(secret), "../private/secret.mp4", f"http://127.0.0.1:{port}/a.mp4"):
            for suffix in SUFFIXES:
                path = tmp_path / f"list{suffix}"
                path.write_text(text.format(target=target, port=port), encoding="utf-8")
                with pytest.raises(RowError) as caught:
                    read(path, decoder)
                assert caught.value.reason is Reason.MEDIA_UNREADABLE
    assert calls == []


@pytest.mark.parametrize(
    "demuxer_start", [b"RIFF\0\0\0\0AVI ", b"OggS", b"\0\0\x01\xba", b"GIF89a"]
)
def test_a_playlist_behind_a_containers_first_bytes_is_read_as_that_container(
    tmp_path: Path, secret: Path, demuxer_start: bytes
) -> None:
    path = tmp_path / "both.m3u8"
    path.write_bytes(demuxer_start + PLAYLISTS["hls"].format(target=secret).encode())
    assert demuxer_of(path.read_bytes()) in ("avi", "ogg", "mpeg", "gif")
    with pytest.raises(RowError):
        read(path)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_movie_that_refers_to_another_file_does_not_get_it(
    tmp_path: Path, secret: Path, decoder: Decoder
) -> None:
    """QuickTime's data references: the track's pictures lie in a file that `dref` names."""
    content = bytearray(secret.read_bytes())
    at = content.index(b"dref") + 4 + 4 + 4  # version and flags, number of entries
    size, kind, flags = struct.unpack_from(">I4sI", content, at)
    assert (size, kind, flags & 1) == (12, b"url ", 1), "as written, it says: in this file"
    struct.pack_into(">I4sI", content, at, size, b"alis", 0)
    end = content.index(b"moov") - 4
    start = content.index(b"mdat") + 4
    content[start:end] = bytes(end - start)
    path = tmp_path / "refers.mov"
    path.write_bytes(content)
    with pytest.raises(RowError):
        read(path, decoder)


@pytest.mark.parametrize(
    "name",
    ["concat:{0}|{0}", "file:{0}", "subfile,,start,0,end,9,,:{0}", "cache:{0}", "-", "{0}#"],
)
def test_a_name_is_never_a_protocol(tmp_path: Path, secret: Path, name: str) -> None:
    """Even if such a name got as far as a decoder: it is a path, and no such file exists."""
    with pytest.raises(RowError, match="no such file"):
        read(tmp_path / name.format(secret))


# ---- links ----


def test_a_link_out_of_the_media_folder_is_not_followed(tmp_path: Path, secret: Path) -> None:
    base = tmp_path / "media"
    base.mkdir()
    (base / "link.mp4").symlink_to(secret)
    (base / "folder").symlink_to(secret.parent)
    (base / "chain.mp4").symlink_to("link.mp4")
    (base / "dots.mp4").symlink_to("../private/secret.mp4")
    media = open_store(str(base), confined=True)
    for name in ("link.mp4", "folder/secret.mp4", "chain.mp4", "dots.mp4"):
        for deed in (media.head, media.local_path, media.get):
            with pytest.raises(StoreDenied, match="leads out of"):
                deed(name)
        with pytest.raises(StoreDenied, match="leads out of"):
            media.download(name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert list(media.list()) == []


def test_a_link_within_the_media_folder_is_followed(tmp_path: Path, secret: Path) -> None:
    media = open_store(str(tmp_path), confined=True)
    (tmp_path / "same.mp4").symlink_to("private/secret.mp4")
    assert media.get("same.mp4") == secret.read_bytes()


def test_a_device_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert open_store(str(tmp_path), confined=True).head("pipe.mp4") is None
    with pytest.raises(RowError, match="no such file"):
        read(tmp_path / "pipe.mp4")
