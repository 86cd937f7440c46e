"""A tar as a folder of media: looked up as the reference does, read by ranges, never unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store import NotFound, Store, StoreDenied, open_object
from neva.store.tar import TarStore
from tests.support.s3_proxy import S3Proxy

LONG = "deep/" * 40 + "clip.mp4"
CONTENT = {
    "./red.mp4": b"red" * 9,
    "v5.mp4": bytes(range(256)) * 300,
    LONG: b"long",
    "é/日.mp4": b"u",
}

MakeTar = Callable[..., TarStore]


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def packed(write: Callable[[tarfile.TarFile], None], format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        write(tar)
    return buffer.getvalue()


def ordinary(tar: tarfile.TarFile) -> None:
    for name, data in CONTENT.items():
        add(tar, name, data)


@pytest.fixture
def make(store: Store, tmp_path: Path) -> MakeTar:
    """A tar in every kind of store."""

    def build(data: bytes, name: str = "media.tar", max_unpacked_bytes: int = 1 << 30) -> TarStore:
        store.put(name, data)
        return TarStore(store, name, tmp_path / "cache", max_unpacked_bytes)

    return build


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_members_are_found_by_name(make: MakeTar, format: int, tmp_path: Path) -> None:
    tar = make(packed(ordinary, format))
    for name, data in CONTENT.items():
        name = name.removeprefix("./")
        info = tar.head(name)
        assert info is not None
        assert info.size_bytes == len(data)
        tar.download(name, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        assert tar.local_path(name) is None
    with tar.open_read("v5.mp4", offset=10, num_bytes=5) as stream:
        assert stream.read() == bytes(range(10, 15))
    with tar.open_read("v5.mp4", offset=256 * 300 - 2, num_bytes=100) as stream:
        assert stream.read() == b"\xfe\xff", "and nothing of the next member"
    assert tar.head("gone.mp4") is None
    with pytest.raises(NotFound), tar.open_read("gone.mp4"):
        pass


def test_the_name_says_which_member_was_used(make: MakeTar) -> None:
    tar = make(packed(ordinary))
    assert tar.uri_of("red.mp4").endswith("/media.tar#./red.mp4")
    assert tar.uri_of("v5.mp4").endswith("/media.tar#v5.mp4")


def test_the_exact_name_and_the_last_of_two_win(make: MakeTar) -> None:
    def write(tar: tarfile.TarFile) -> None:
        for name, data in (("a", b"1"), ("a", b"22"), ("./a", b"333"), ("./b", b"4444")):
            add(tar, name, data)

    tar = make(packed(write))
    sizes = {name: info.size_bytes for name in ("a", "b") if (info := tar.head(name))}
    assert sizes == {"a": 2, "b": 4}


def test_what_leads_elsewhere_is_no_member(make: MakeTar) -> None:
    """A "tar slip" needs somebody who unpacks; here such names can't be asked for, or are links."""

    def write(tar: tarfile.TarFile) -> None:
        for name in ("../up.mp4", "/etc/passwd", "a/../../b.mp4", "..", "x\n.mp4"):
            add(tar, name, b"evil")
        add(tar, "link.mp4", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.mp4", type=tarfile.LNKTYPE, linkname="../secret")
        add(tar, "pipe.mp4", type=tarfile.FIFOTYPE)
        add(tar, "disk.mp4", type=tarfile.BLKTYPE)
        add(tar, "folder.mp4", type=tarfile.DIRTYPE)
        add(tar, "good.mp4", b"good")

    tar = make(packed(write))
    for name in ("../up.mp4", "/etc/passwd", "a/../../b.mp4", "..", "x\n.mp4", "folder.mp4"):
        assert tar.head(name) is None
    for name in ("link.mp4", "hard.mp4"):
        with pytest.raises(StoreDenied, match=rf"#{name}: it is a link"):
            tar.head(name)
        with pytest.raises(StoreDenied):
            tar.open_read(name)
    for name in ("pipe.mp4", "disk.mp4"):
        with pytest.raises(StoreDenied, match="no regular file"):
            tar.head(name)
    assert tar.head("good.mp4") is not None


def test_a_sparse_file_is_refused(make: MakeTar) -> None:
    def write(tar: tarfile.TarFile) -> None:
        sparse = {"map": "0,1", "size": "1000000", "name": "s.mp4"}
        headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
        add(tar, "s.mp4", b"x", pax_headers=headers)

    with pytest.raises(StoreDenied, match="sparse"):
        make(packed(write, tarfile.PAX_FORMAT)).head("s.mp4")


@pytest.mark.parametrize(
    "data",
    [
        b"no tar at all" * 100,
        packed(ordinary)[:70_000],
        b"\0" * 100 + packed(ordinary),
        packed(lambda tar: add(tar, "a", type=tarfile.GNUTYPE_LONGNAME))[:512].replace(
            b"00000000000\0", b"77777777777\0", 1
        ),
    ],
    ids=["text", "cut off", "shifted", "a name of 8 GiB"],
)
def test_what_is_no_tar_ends_the_job_in_words(make: MakeTar, data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"media\.tar is no tar that can be read"):
        make(data).head("a")


def test_a_tar_that_is_not_there_is_a_wrong_job(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.tar does not exist") as caught:
        TarStore(store, "gone.tar", tmp_path, 1).head("a")
    assert caught.value.reason is Reason.OBJECT_NOT_FOUND


@pytest.mark.parametrize("name", ["media.tar.gz", "media.tgz"])
def test_a_compressed_tar_is_unpacked_once(
    make: MakeTar, store: Store, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(gzip.compress(packed(ordinary)), name).open_read("v5.mp4") as stream:
        assert stream.read() == CONTENT["v5.mp4"]
    monkeypatch.setattr(TarStore, "_unpack", None)
    with TarStore(store, name, tmp_path / "cache", 1).open_read("red.mp4") as stream:
        assert stream.read() == CONTENT["./red.mp4"]


def test_a_bomb_is_not_unpacked(make: MakeTar, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(10 << 20))
    with pytest.raises(ConfigError, match="more than 1048576 bytes unpacked"):
        make(bomb, "bomb.tar.gz", max_unpacked_bytes=1 << 20).head("a")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(packed(ordinary))[:-200]])
def test_a_damaged_compressed_tar_ends_the_job_in_words(make: MakeTar, data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"bad\.tar\.gz can't be unpacked"):
        make(data, "bad.tar.gz").head("a")


def test_of_a_large_tar_in_a_bucket_only_headers_and_members_are_read(
    proxy: S3Proxy, s3_uri: str, tmp_path: Path
) -> None:
    big = bytes(4 << 20)

    def write(tar: tarfile.TarFile) -> None:
        for number in range(4):
            add(tar, f"{number}.mp4", big)
        add(tar, "small.mp4", b"small")

    store, key = open_object(f"{s3_uri}media.tar")
    store.put(key, packed(write))
    proxy.seen.clear()
    tar = TarStore(store, key, tmp_path, 1)
    with tar.open_read("small.mp4") as stream:
        assert stream.read() == b"small"
    num_requests = len(proxy.seen)
    assert num_requests <= 20
    # The next process finds the index.
    proxy.seen.clear()
    assert TarStore(store, key, tmp_path, 1).head("0.mp4") is not None
    assert len(proxy.seen) == 1, "one HEAD tells that the tar is the same"
    # Another tar of the same name is another tar.
    store.put(key, packed(lambda tar: add(tar, "new.mp4", b"new")))
    assert TarStore(store, key, tmp_path, 1).head("0.mp4") is None
