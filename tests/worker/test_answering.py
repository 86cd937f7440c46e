"""Rows through a fake engine and fake media: what happens to each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neva.errors import RowError
from neva.ledger import FinishedRow, ShardRow
from neva.metrics import of_workers
from neva.metrics.counting import own_sums
from neva.prompting import Prompt
from neva.reasons import Reason
from tests.fakes.engine import FakeEngine
from worker.answering import Answerer, Interrupted
from worker.engine.protocol import MediaRef, Outcome, RequestFailed, SamplingParams
from worker.engine_turn import EngineTurn
from worker.media.ahead import MediaAhead
from worker.media.shared import PreparedMedia


class FakeMedia:
    """Writes an empty pixel file per video, and fails for some."""

    def __init__(self, folder: Path, errors: dict[str, Exception] | None = None) -> None:
        self.folder = folder
        self.errors = errors or {}
        self.prepared: list[str] = []

    def prepare(self, name: str) -> PreparedMedia:
        self.prepared.append(name)
        if name in self.errors:
            raise self.errors[name]
        path = self.folder / f"{name}.f32"
        path.touch()
        return PreparedMedia(MediaRef(name, str(path), (1, 3, 2, 2)), (0,), "pyav")


class FakePrompts:
    def build(self, question: str) -> Prompt:
        if question == "too long":
            raise RowError("it does not fit", reason=Reason.CONTEXT_OVERFLOW)
        return Prompt((1,), 4, (2,), f"<video>{question}")


class FakeOutputs:
    def answered(
        self, row: ShardRow, prompt: Prompt, result: object, media: PreparedMedia, attempt: int
    ) -> FinishedRow:
        return FinishedRow(row.seq, row.row_id, {"frames": media.frames, "attempt": attempt}, None)


def rows(*ids_and_media: str, question: str = "?") -> list[ShardRow]:
    return [
        ShardRow(seq, seq + 1, name.partition("@")[0], question, name.partition("@")[2], {})
        for seq, name in enumerate(ids_and_media)
    ]


class Bench:
    """An `Answerer` with everything around it faked."""

    def __init__(self, folder: Path, engine: FakeEngine, media: FakeMedia | None = None) -> None:
        self.engine = engine
        self.media = media or FakeMedia(folder)
        self.turn = EngineTurn(folder)
        self.ahead = MediaAhead(self.media, num_threads=2, max_ahead=3)
        self.answerer = Answerer(
            engine=engine,  # type: ignore[arg-type]
            turn=self.turn,
            media=self.ahead,
            prompts=FakePrompts(),  # type: ignore[arg-type]
            outputs=FakeOutputs(),  # type: ignore[arg-type]
            sampling=SamplingParams(),
            rows_in_flight=4,
            max_attempts=3,
            engine_start_s=5,
            engine_end_file=folder / "engine-end.txt",
        )
        self.finished: dict[str, FinishedRow] = {}

    def answer(self, asked: list[ShardRow], tick: Callable[[], None] = lambda: None) -> None:
        def finish(row: FinishedRow) -> None:
            assert row.row_id not in self.finished, "a row is finished once"
            self.finished[row.row_id] = row

        self.answerer.answer(asked, 1, finish, tick)

    def reasons(self) -> dict[str, str]:
        return {key: row.error["reason"] for key, row in self.finished.items() if row.error}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Bench]:
    return lambda engine, media=None: Bench(tmp_path, engine, media)


def test_every_row_is_answered_and_each_video_prepared_once(make: Callable[..., Bench]) -> None:
    bench = make(FakeEngine())
    bench.answer(rows("1@a", "2@a", "3@a", "4@b", "5@b"))
    assert sorted(bench.finished) == ["1", "2", "3", "4", "5"]
    assert bench.reasons() == {}
    assert sorted(bench.media.prepared) == ["a", "b"]


def test_no_more_rows_than_allowed_are_in_flight(make: Callable[..., Bench]) -> None:
    bench = make(FakeEngine())
    bench.answer(rows(*(f"{n}@a" for n in range(20))))
    assert max(len(batch) for batch in bench.engine.batches) == 4


def test_the_time_is_told_apart(make: Callable[..., Bench]) -> None:
    bench = make(FakeEngine())
    bench.answer(rows("1@a", "2@b"))
    assert set(bench.answerer.seconds.total()) <= {"engine", "wait_for_engine", "wait_for_media"}
    assert "engine" in bench.answerer.seconds.total()


def test_pixels_are_deleted_when_their_rows_are_done(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make(FakeEngine())
    bench.answer(rows("1@a", "2@a", "3@b"))
    assert list(tmp_path.glob("*.f32")) == []


def test_bad_media_fails_its_rows_alone(make: Callable[..., Bench], tmp_path: Path) -> None:
    errors = {
        "b": RowError("no video in it", reason=Reason.MEDIA_UNREADABLE),
        "c": RowError("gone", reason=Reason.MEDIA_NOT_FOUND),
    }
    bench = make(FakeEngine(), FakeMedia(tmp_path, errors))
    bench.answer(rows("1@a", "2@b", "3@b", "4@c", "5@d"))
    assert bench.reasons() == {
        "2": "MediaUnreadable",
        "3": "MediaUnreadable",
        "4": "MediaNotFound",
    }
    assert sorted(bench.finished) == ["1", "2", "3", "4", "5"]


def test_a_row_the_engine_refuses_fails_alone(make: Callable[..., Bench]) -> None:
    def refuse_2(request: object) -> Outcome:
        if request.request_id == "2":  # type: ignore[attr-defined]
            return RequestFailed("2", Reason.NUMERICAL_ERROR, "NaN", retryable=False)
        return FakeEngine().answer(request)  # type: ignore[arg-type]

    bench = make(FakeEngine(refuse_2))
    bench.answer(rows("1@a", "2@a", "3@a"))
    assert bench.reasons() == {"2": "NumericalError"}
    assert sorted(bench.finished) == ["1", "2", "3"]


def test_an_engine_that_dies_by_chance_costs_no_row(make: Callable[..., Bench]) -> None:
    bench = make(FakeEngine(kills={"2"}, num_deaths=1))
    bench.answer(rows(*(f"{n}@a" for n in range(8))))
    assert len(bench.finished) == 8
    assert bench.reasons() == {}


def test_a_row_that_kills_every_engine_is_given_up_and_its_neighbours_are_answered(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make(FakeEngine(kills={"2"}))
    (tmp_path / "engine-end.txt").write_text("OutOfMemoryError: 3 GiB asked for")
    bench.answer(rows(*(f"{n}@a" for n in range(8))))
    assert bench.reasons() == {"2": "EngineCrashed"}
    error = bench.finished["2"].error
    assert error is not None
    assert "ended: OutOfMemoryError: 3 GiB asked for (3 times" in error["message"]
    assert len(bench.finished) == 8
    deadly = [batch for batch in bench.engine.batches if "2" in batch]
    assert deadly[1:] == [["2"]] * 3, "after the first death it is alone in the engine"


def test_answers_tokens_failures_and_retries_are_counted(make: Callable[..., Bench]) -> None:
    before = own_sums()
    bench = make(FakeEngine(kills={"2"}))
    bench.answer(rows(*(f"{n}@a" for n in range(8))))
    counted = {key: value - before.get(key, 0.0) for key, value in own_sums().items()}
    assert counted[of_workers.ROWS_ANSWERED.name, ()] == 7
    assert counted[of_workers.ANSWER_TOKENS.name, ()] == 7 * 2
    assert counted[of_workers.PROMPT_TOKENS.name, ()] == 7 * FakePrompts().build("?").num_tokens
    assert counted[of_workers.ROWS_FAILED.name, ("EngineCrashed",)] == 1
    in_first_death = len(next(batch for batch in bench.engine.batches if "2" in batch))
    # All of them once, and twice more the one that is given up the third time.
    assert counted[of_workers.ROW_RETRIES.name, ("EngineCrashed",)] == in_first_death + 2


def test_an_interruption_leaves_no_pixels_behind(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    def interrupt() -> None:
        if bench.finished:
            raise Interrupted("draining")

    bench = make(FakeEngine())
    with pytest.raises(Interrupted):
        bench.answer(rows(*(f"{n}@v{n}" for n in range(20))), interrupt)
    assert 0 < len(bench.finished) < 20
    bench.ahead.close()
    assert len(bench.media.prepared) < 20
    assert list(tmp_path.glob("*.f32")) == []


def test_a_row_that_does_not_fit_is_an_error_of_its_own(make: Callable[..., Bench]) -> None:
    bench = make(FakeEngine())
    bench.answer([*rows("1@a", question="too long"), *rows("2@a")])
    assert bench.reasons() == {"1": "ContextOverflow"}


def test_whoever_wants_the_engine_alone_gets_it(tmp_path: Path) -> None:
    everybody, alone = EngineTurn(tmp_path), EngineTurn(tmp_path)
    assert everybody.share()
    assert not alone.take_alone(), "rows are in the engine"
    assert not everybody.share(), "nobody gets in before the one who waits"
    everybody.leave()
    assert alone.take_alone()
    assert not everybody.share()
    alone.leave()
    assert everybody.share()


def test_a_dead_process_frees_its_turn(tmp_path: Path) -> None:
    holder = EngineTurn(tmp_path)
    assert holder.take_alone()
    holder.close()  # what the kernel does for a process that was killed
    assert EngineTurn(tmp_path).share()


def test_waiting_for_a_turn_can_be_interrupted(make: Callable[..., Bench], tmp_path: Path) -> None:
    blocker = EngineTurn(tmp_path)
    assert blocker.take_alone()
    bench = make(FakeEngine())
    num_ticks = iter(range(10))

    def tick() -> None:
        if next(num_ticks, None) is None:
            raise Interrupted("draining")

    with contextlib.suppress(Interrupted):
        bench.answer(rows("1@a"), tick)
    assert bench.finished == {}
