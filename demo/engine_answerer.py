"""Answers by the project's own engine, in real rank processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from demo.answerers import Row
from neva.errors import NevaError
from neva.tokens import Tokenizer
from worker.engine.client import EngineClient
from worker.engine.launch import EngineConfig, EngineProcesses
from worker.engine.protocol import GenerateRequest, MediaRef, RequestFailed, SamplingParams

_READY_TIMEOUT_S: Final = 120.0
_POLL_TIMEOUT_S: Final = 5.0


class EngineAnswerer:
    """Greedy answers by the engine behind `client`; pixels pass through files in `pixels_dir`."""

    def __init__(
        self, client: EngineClient, tokenizer: Tokenizer, pixels_dir: Path, max_new_tokens: int = 24
    ) -> None:
        self._client = client
        self._tokenizer = tokenizer
        self._pixels_dir = pixels_dir
        self._sampling = SamplingParams(greedy=True, max_new_tokens=max_new_tokens)

    def answer(self, rows: Sequence[Row]) -> list[str]:
        """The generated text of each row.

        Raises:
            NevaError: the engine failed a row or went away.
        """
        media = self._write_pixels(rows)
        for number, row in enumerate(rows):
            self._client.submit(
                GenerateRequest(
                    request_id=str(number),
                    row_key=str(number),
                    before_ids=row.prompt.before_ids,
                    num_media_tokens=row.prompt.num_media_tokens,
                    after_ids=row.prompt.after_ids,
                    media=media[row.video],
                    sampling=self._sampling,
                )
            )
        texts: dict[int, str] = {}
        while len(texts) < len(rows):
            for outcome in self._client.poll(_POLL_TIMEOUT_S):
                if isinstance(outcome, RequestFailed):
                    raise NevaError(outcome.message, reason=outcome.reason)
                texts[int(outcome.request_id)] = self._tokenizer.decode(outcome.token_ids)
        for ref in media.values():
            Path(ref.path).unlink()
        return [texts[number] for number in range(len(rows))]

    def _write_pixels(self, rows: Sequence[Row]) -> dict[str, MediaRef]:
        refs: dict[str, MediaRef] = {}
        for row in rows:
            if row.video not in refs:
                path = self._pixels_dir / f"{row.video}.f32"
                row.pixels.tofile(path)
                num_frames, num_channels, height, width = row.pixels.shape
                shape = (num_frames, num_channels, height, width)
                refs[row.video] = MediaRef(key=row.video, path=str(path), shape=shape)
        return refs


@contextmanager
def running_engine(model_dir: Path, tensor_parallel_size: int) -> Iterator[EngineAnswerer]:
    """An engine of its own for the time of the `with` block, in fp32."""
    with TemporaryDirectory(prefix="neva-engine-") as folder:
        directory = Path(folder)
        config = EngineConfig(
            model_dir=model_dir,
            tensor_parallel_size=tensor_parallel_size,
            precision="fp32",
            socket_path=directory / "engine.sock",
            scratch_dir=directory / "scratch",
        )
        engine = EngineProcesses.start(config)
        try:
            engine.wait_ready(_READY_TIMEOUT_S)
            client = EngineClient(config.socket_path)
            try:
                yield EngineAnswerer(client, Tokenizer.from_directory(model_dir), directory)
            finally:
                client.close()
        finally:
            engine.terminate()
