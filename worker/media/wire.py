"""Messages between a Celery child and its decoding process, over the latter's stdin and stdout.

The decoding process reads hostile files, so what comes back from it is data and no more: JSON of a
fixed shape, checked and bounded, and bytes of a picture. (What goes in comes from us: first a
pickled `DecoderSetup`.)

A message is two lengths (4 bytes each, big-endian), JSON, and bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neva.media_rules import MediaRules
from worker.media.limits import MediaLimits
from worker.media.preprocess import Preprocessor

HEADER: Final = struct.Struct(">II")
_MAX_JSON_BYTES: Final = 1 << 20
_MAX_PICTURE_BYTES: Final = 64 << 20

DecoderUsed = Literal["decord", "pyav", "torchcodec", "pillow"]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Frame = Annotated[int, Field(ge=0)]
_Range = Annotated[tuple[_Frame, _Frame], Field(strict=False)]


@dataclass(frozen=True, slots=True)
class DecoderSetup:
    """What one job's media are read by."""

    rules: MediaRules
    preprocess: Preprocessor
    limits: MediaLimits


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ask(_Message):
    """To the decoding process: read this file.

    Attributes:
        pixels: file to write the pixels to.
        decoder: as in the job, or the one to try after another did not come back.
        in_pieces: the file is empty yet (`worker.media.ranged`).
    """

    path: str
    pixels: str
    decoder: Literal["auto", "decord", "pyav", "torchcodec"]
    in_pieces: bool = False


class Need(_Message):
    """From it: these bytes of the file are needed. Answered with `Given` when they are there."""

    kind: Literal["need"] = "need"
    ranges: Annotated[list[_Range], Field(max_length=100_000)]


class Given(_Message):
    """To it: they are there."""


class Done(_Message):
    """From it: the pixels are in the file that was named, the picture is behind this."""

    kind: Literal["done"] = "done"
    shape: Annotated[tuple[int, int, int, int], Field(strict=False)]
    frames: Annotated[tuple[_Frame, ...], Field(strict=False, max_length=4096)]
    decoder: DecoderUsed
    decode_s: _Seconds
    preprocess_s: _Seconds


class Failed(_Message):
    """From it: the file's rows fail."""

    kind: Literal["failed"] = "failed"
    reason: Annotated[str, Field(max_length=100)]
    message: Annotated[str, Field(max_length=10_000)]


class _Answer(BaseModel):
    answer: Annotated[Done | Failed | Need, Field(discriminator="kind")]


class BrokenMessage(Exception):
    """What came is no message: the other side is not itself any more."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What follows a header."""

    num_json_bytes: int
    num_picture_bytes: int


def pack(message: BaseModel, picture: bytes = b"") -> bytes:
    """A message as bytes."""
    json = message.model_dump_json().encode()
    return HEADER.pack(len(json), len(picture)) + json + picture


def unpack_sizes(header: bytes) -> Sizes:
    """Raises BrokenMessage for sizes that nobody sends."""
    sizes = Sizes(*HEADER.unpack(header))
    if sizes.num_json_bytes > _MAX_JSON_BYTES or sizes.num_picture_bytes > _MAX_PICTURE_BYTES:
        raise BrokenMessage(f"a message of {sizes}")
    return sizes


def unpack_answer(json: bytes) -> Done | Failed | Need:
    """Raises BrokenMessage."""
    try:
        return _Answer.model_validate_json(b'{"answer":' + json + b"}").answer
    except ValidationError as error:
        raise BrokenMessage(str(error)) from error


def read_ask(stream: BinaryIO) -> Ask | None:
    """The next file to read; None when the other side is gone."""
    json = _read_message(stream)
    return None if json is None else Ask.model_validate_json(json)


def read_given(stream: BinaryIO) -> None:
    """Wait for it. Raises EOFError when the other side is gone."""
    json = _read_message(stream)
    if json is None:
        raise EOFError
    Given.model_validate_json(json)


def _read_message(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    return stream.read(unpack_sizes(header).num_json_bytes)
