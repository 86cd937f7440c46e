"""A model's parts in object stores: listed, digested, read in part, fetched whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.model_files import fetch_model, find_model, small_model_files
from neva.spec import Model
from neva.store import Store, open_store
from tests.neva.nemo_directory import ARTIFACT, WEIGHTS, nemo_config, pack, write_clip, write_nemo
from tests.neva.tiny_llava import write_model_dir

WEIGHT_BYTES = 20 << 20


@pytest.fixture
def store(store_base_uri: str) -> Store:
    return open_store(store_base_uri)


def upload(store: Store, directory: Path, prefix: str) -> str:
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            store.put_file(f"{prefix}/{file.relative_to(directory).as_posix()}", file)
    return f"{store.uri_of(prefix)}/"


@pytest.fixture
def nemo(tmp_path: Path) -> Path:
    directory = write_nemo(tmp_path / "unpacked", nemo_config(), WEIGHT_BYTES)
    (directory / "model_weights").mkdir()
    (directory / "model_weights" / ".metadata").write_bytes(b"x")
    return directory


@pytest.mark.parametrize("form", ["directory", "tar", "gzip"])
def test_a_nemo_checkpoint_and_its_tower_in_any_store(
    form: str, store: Store, nemo: Path, tmp_path: Path
) -> None:
    if form == "directory":
        uri = upload(store, nemo, "model")
    else:
        store.put_file("m.nemo", pack(nemo, tmp_path / "m.nemo", compress=form == "gzip"))
        uri = store.uri_of("m.nemo")
    vision = upload(store, write_clip(tmp_path / "clip"), "clip")
    parts = find_model(Model.model_validate({"uri": uri, "visionEncoder": vision}))

    with small_model_files(parts) as model:
        small = model.profile()
        assert model.tokenizer().vocab_size == 11
        assert small.template == "nv_steerlm"
    whole = fetch_model(parts, tmp_path / "cache")
    assert whole.profile() == small
    archive, _ = whole.archives()
    assert archive.members[WEIGHTS].size_bytes == WEIGHT_BYTES
    assert {"model_weights/.metadata", ARTIFACT} < set(archive.members)
    assert fetch_model(parts, tmp_path / "cache") == whole


def test_the_controller_reads_little_of_a_remote_tar(
    nemo: Path, tmp_path: Path, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_uri)
    store.put_file("m.nemo", pack(nemo, tmp_path / "m.nemo"))
    vision = upload(store, write_clip(tmp_path / "clip"), "clip")
    document = {"uri": store.uri_of("m.nemo"), "visionEncoder": vision}
    parts = find_model(Model.model_validate(document))
    asked: list[int] = []
    original = type(parts.model.store).open_read

    def counted(self: Store, key: str, *, offset: int = 0, num_bytes: int | None = None):  # type: ignore[no-untyped-def]
        asked.append(num_bytes or 0)
        return original(self, key, offset=offset, num_bytes=num_bytes)

    monkeypatch.setattr(type(parts.model.store), "open_read", counted)
    with small_model_files(parts) as model:
        model.profile()
    assert sum(asked) < WEIGHT_BYTES / 2


def test_every_part_counts_in_the_digest(store: Store, nemo: Path, tmp_path: Path) -> None:
    uri = upload(store, nemo, "model")
    vision = upload(store, write_clip(tmp_path / "clip"), "clip")
    document = {"uri": uri, "visionEncoder": vision}
    digest = find_model(Model.model_validate(document)).digest
    assert digest == find_model(Model.model_validate(document)).digest
    store.put("clip/preprocessor_config.json", b"{}")
    assert find_model(Model.model_validate(document)).digest != digest
    assert find_model(Model.model_validate({"uri": uri})).digest != digest


def test_a_part_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    uri = upload(store, write_model_dir(tmp_path), "hf")
    find_model(Model.model_validate({"uri": uri}))
    for missing in (
        {"baseModel": store.uri_of("b.nemo")},
        {"visionEncoder": store.uri_of("v") + "/"},
    ):
        with pytest.raises(ConfigError, match="no model there") as raised:
            find_model(Model.model_validate({"uri": uri, **missing}))
        assert next(iter(missing.values())).rstrip("/") in raised.value.message


def test_a_model_that_is_here_already_is_not_read_to_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    write_model_dir(tmp_path / "model")
    parts = find_model(Model.model_validate({"uri": str(tmp_path / "model")}))

    def unwanted(*_: object) -> None:
        raise AssertionError("gigabytes would be hashed")

    monkeypatch.setattr("hashlib.file_digest", unwanted)
    assert fetch_model(parts, tmp_path / "cache").path == tmp_path / "model"
