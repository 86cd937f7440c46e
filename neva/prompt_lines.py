"""Cuts a prompts file into records' bytes with their line numbers, in bounded memory.

Both readers yield `(line, bytes)`, or `(line, RowError)` for what can't be cut out; lines count
from 1. Whether the bytes are a good record is for `neva.prompts` to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from neva.errors import ConfigError, RowError
from neva.reasons import Reason

RawLine = tuple[int, bytes | RowError]
RawBatch = tuple[Sequence[int], Sequence[bytes | RowError]]
"""Lines and what stands on them, of equal length."""

MAX_ARRAY_BYTES = 64 << 20
_CHUNK_BYTES = 256 << 10
_BOM = b"\xef\xbb\xbf"
_JSON_WHITESPACE = " \t\r\n"


def raw_lines(stream: BinaryIO | Iterable[bytes], max_line_bytes: int) -> Iterator[RawLine]:
    """The lines of a JSON Lines file: BOM, line ends and blank lines are removed.

    A line longer than `max_line_bytes` becomes one `RowError` (`ROW_TOO_LARGE`) and is never
    held. An iterable may cut the file anywhere.
    """
    for lines, pieces in raw_batches(stream, max_line_bytes):
        yield from zip(lines, pieces, strict=True)


def raw_batches(
    stream: BinaryIO | Iterable[bytes], max_line_bytes: int, *, is_start: bool = True
) -> Iterator[RawBatch]:
    """The same, as many lines at a time as one read brings.

    Args:
        is_start: of a file; what looks like a BOM is none anywhere else.
    """
    line, tail, is_too_long = 0, b"", False
    chunks = _chunks(stream)
    for chunk in _without_bom(chunks) if is_start else chunks:
        data = tail + chunk
        pieces = data.split(b"\n")
        tail = pieces.pop()
        first, line = line + 1, line + len(pieces)
        if pieces:
            all_fit = len(data) <= max_line_bytes or max(map(len, pieces)) <= max_line_bytes
            yield _batch(first, pieces, max_line_bytes, is_too_long, all_fit and not is_too_long)
            is_too_long = False
        if is_too_long or len(tail) > max_line_bytes:
            is_too_long, tail = True, b""
    if is_too_long:
        yield [line + 1], [_too_large(max_line_bytes)]
    elif tail and not tail.isspace():
        yield [line + 1], [tail]


def _batch(
    first_line: int,
    pieces: list[bytes],
    max_line_bytes: int,
    first_is_too_long: bool,
    none_is_too_long: bool,
) -> RawBatch:
    if none_is_too_long and not any(map(bytes.isspace, pieces)) and all(pieces):
        return range(first_line, first_line + len(pieces)), pieces
    lines: list[int] = []
    kept: list[bytes | RowError] = []
    for line, piece in enumerate(pieces, first_line):
        if len(piece) > max_line_bytes or (first_is_too_long and line == first_line):
            lines.append(line)
            kept.append(_too_large(max_line_bytes))
        elif piece and not piece.isspace():
            lines.append(line)
            kept.append(piece)
    return lines, kept


def array_items(stream: BinaryIO | Iterable[bytes], max_line_bytes: int) -> Iterator[RawLine]:
    """The elements of a `.json` file, which holds one array (or JSON Lines all the same).

    The file is held in memory. An element's line is the one it starts on. A syntax error ends
    the array: what follows can't be told apart.

    Raises:
        ConfigError: the file is larger than `MAX_ARRAY_BYTES`.
    """
    data = b""
    for chunk in _without_bom(_chunks(stream)):
        data += chunk
        if len(data) > MAX_ARRAY_BYTES:
            raise ConfigError(
                f"a .json prompts file may have {MAX_ARRAY_BYTES >> 20} MiB; larger ones are "
                "streamed as JSON Lines: jq -c '.[]' prompts.json > prompts.jsonl"
            )
    if not data.lstrip().startswith(b"["):
        yield from raw_lines([data], max_line_bytes)
        return
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield line, RowError("the array is not valid UTF-8", reason=Reason.INVALID_ENCODING)
        return
    for line, item in _elements(text):
        is_too_large = isinstance(item, bytes) and len(item) > max_line_bytes
        yield line, _too_large(max_line_bytes) if is_too_large else item


def _elements(text: str) -> Iterator[RawLine]:
    decoder = json.JSONDecoder(parse_int=str)  # only the extent is wanted
    lines = _LineCounter(text)
    position = _skip_whitespace(text, text.index("[") + 1)
    if not text.startswith("]", position):
        while True:
            try:
                _, end = decoder.raw_decode(text, position)
            except (json.JSONDecodeError, RecursionError) as error:
                yield lines.line_of(position), _array_broken(str(error))
                return
            yield lines.line_of(position), text[position:end].encode()
            position = _skip_whitespace(text, end)
            if not text.startswith(",", position):
                break
            position = _skip_whitespace(text, position + 1)
    if not text.startswith("]", position):
        yield lines.line_of(position), _array_broken("expected ',' or ']'")
        return
    position = _skip_whitespace(text, position + 1)
    if position < len(text):
        yield lines.line_of(position), _array_broken("there is text after the closing ']'")


class _LineCounter:
    """Tells the line of ever later positions, counting each newline once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position, self._line = 0, 1

    def line_of(self, position: int) -> int:
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line


def _chunks(stream: BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    if hasattr(stream, "read"):
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
    else:
        yield from stream


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    start: bytes | None = b""
    for chunk in chunks:
        if start is not None:
            chunk = start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                start = chunk  # the mark may be cut in the middle
                continue
            chunk, start = chunk.removeprefix(_BOM), None
        yield chunk
    if start:
        yield start


def _skip_whitespace(text: str, position: int) -> int:
    while position < len(text) and text[position] in _JSON_WHITESPACE:
        position += 1
    return position


def _too_large(max_line_bytes: int) -> RowError:
    return RowError(f"longer than {max_line_bytes} bytes", reason=Reason.ROW_TOO_LARGE)


def _array_broken(words: str) -> RowError:
    return RowError(
        f"not valid JSON: {words}; the array can't be read any further",
        reason=Reason.INVALID_JSON,
    )
