"""`python -m worker.media.decoder_main PARENT`: reads media files in turn, until stdin ends.

The only place where the bytes of a user's media are looked at. It holds no credentials (`Decoder`
starts it with a bare environment), its memory is limited, and it may be killed at any moment: a
file that crashes, hangs or bloats it costs this process and the file's own rows.

stdin: pickled `DecoderSetup`, then `Ask`s. stdout: an empty message when it is there, then a `Done`
or `Failed` for each.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from neva.errors import RowError
from neva.logs import configure_logging
from neva.media_rules import MediaRules
from neva.process import die_with_parent
from neva.reasons import Reason
from worker.media import wire
from worker.media.clip import Clip, read_clip
from worker.media.limits import too_large
from worker.media.ranged import Range, RangedFile, fetch_needed
from worker.media.wire import DecoderSetup

_MAX_MESSAGE_CHARACTERS: Final = 2000


def answer(ask: wire.Ask, setup: DecoderSetup, need: Callable[[Sequence[Range]], None]) -> bytes:
    """Read one file; the message that says what came of it.

    Args:
        need: has bytes of a file fetched that is given in pieces.
    """
    path = Path(ask.path)
    try:
        rules = replace(setup.rules, decoder=ask.decoder)
        if ask.in_pieces:
            with RangedFile(path, need) as file:
                clip = _read_pieces(path, file, rules, setup)
        else:
            clip = read_clip(path, rules, setup.preprocess, setup.limits)
        clip.pixels.tofile(ask.pixels)
    except RowError as error:
        return _failed(error)
    except MemoryError:
        limit = f"{setup.limits.decode_memory_bytes} bytes (NEVA_DECODE_MEMORY_BYTES)"
        return _failed(too_large(path.name, "more in it than the memory for decoding", limit))
    except (OSError, ValueError, ArithmeticError, RuntimeError, LookupError) as error:
        # Decoders meet things their authors never saw: that is the file's fault.
        words = f"{path.name} can't be decoded: {type(error).__name__}: {error}"
        return _failed(RowError(words, reason=Reason.MEDIA_UNREADABLE))
    num_frames, num_channels, height, width = clip.pixels.shape
    done = wire.Done(
        shape=(num_frames, num_channels, height, width),
        frames=clip.frames,
        decoder=clip.decoder,
        decode_s=clip.decode_s,
        preprocess_s=clip.preprocess_s,
    )
    return wire.pack(done, clip.strip)


def _read_pieces(path: Path, file: RangedFile, rules: MediaRules, setup: DecoderSetup) -> Clip:
    if fetch_needed(path, file, rules, setup.limits):
        with_pyav = replace(rules, decoder="pyav")
        try:
            return read_clip(path, with_pyav, setup.preprocess, setup.limits)
        except RowError as error:
            if error.reason is Reason.MEDIA_TOO_LARGE:
                raise
        # Not the file's fault before all of it was seen.
        file.fetch_all()
    return read_clip(path, rules, setup.preprocess, setup.limits)


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    configure_logging()
    asks = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for an answer
    setup: DecoderSetup = pickle.load(asks)
    memory = setup.limits.decode_memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(wire.HEADER.pack(0, 0))
    answers.flush()

    def need(ranges: Sequence[Range]) -> None:
        answers.write(wire.pack(wire.Need(ranges=list(ranges))))
        answers.flush()
        wire.read_given(asks)

    while (ask := wire.read_ask(asks)) is not None:
        answers.write(answer(ask, setup, need))
        answers.flush()
    sys.stdout.flush()


def _failed(error: RowError) -> bytes:
    message = error.message[:_MAX_MESSAGE_CHARACTERS]
    return wire.pack(wire.Failed(reason=str(error.reason), message=message))


if __name__ == "__main__":
    main()
