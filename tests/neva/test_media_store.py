"""Media that records name: below the base, and anywhere when the job says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from neva.errors import RowError
from neva.media_store import media_names, open_media
from neva.reasons import Reason
from neva.spec import JobSpec
from tests.neva.jobs import job_spec


def job(base: Path, *, allow_absolute: bool) -> JobSpec:
    spec = job_spec()
    changed = {"media_base_path": str(base), "allow_absolute": allow_absolute}
    return spec.model_copy(update={"input": spec.input.model_copy(update=changed)})


@pytest.mark.parametrize("name", ["/etc/passwd", "s3://other/a.mp4"])
def test_absolute_names_are_refused_unless_the_job_allows_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(RowError) as caught:
        media_names(job(tmp_path, allow_absolute=False))(name)
    assert caught.value.reason is Reason.INVALID_MEDIA_NAME
    assert media_names(job(tmp_path, allow_absolute=True))(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("/a/../b.mp4", "s3://bucket/../b.mp4", "s3://bucket", "s3://", "/", "/a/", "s3:///a.mp4"),
        *("../a.mp4", "http://host/a.mp4", "file:///etc/passwd", "concat:/a|/b", "%2Fetc/passwd"),
    ],
)
def test_what_is_allowed_is_a_path_or_an_object_and_no_more(tmp_path: Path, name: str) -> None:
    with pytest.raises(RowError) as caught:
        media_names(job(tmp_path, allow_absolute=True))(name)
    assert caught.value.reason is Reason.INVALID_MEDIA_NAME


def test_an_absolute_file_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "in.mp4").write_bytes(b"in")
    (tmp_path / "out.mp4").write_bytes(b"outside")
    media = open_media(job(tmp_path / "base", allow_absolute=True))
    assert media.local_path("in.mp4") == tmp_path / "base" / "in.mp4"
    name = str(tmp_path / "out.mp4")
    assert media.local_path(name) == tmp_path / "out.mp4"
    found = media.head(name)
    assert found is not None and found.size_bytes == 7
    with media.open_read(name, offset=3) as stream:
        assert stream.read() == b"side"
    media.download(name, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"outside"
    assert media.uri_of(name) == f"file://{name}"
    assert media.head(str(tmp_path / "gone.mp4")) is None


def test_the_secret_of_a_presigned_url_is_in_no_message(tmp_path: Path) -> None:
    url = "https://user:word@bucket.s3.amazonaws.com/a.mp4?X-Amz-Signature=5ec2e7"
    for allowed in (False, True):
        with pytest.raises(RowError) as caught:
            media_names(job(tmp_path, allow_absolute=allowed))(url)
        assert "https://…@bucket.s3.amazonaws.com/a.mp4?…" in caught.value.message
        assert "5ec2e7" not in caught.value.message
        assert "word" not in caught.value.message
