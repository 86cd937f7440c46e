from __future__ import annotations

from neva.timings import read_timings, timings_words, write_timings
from tests.fakes.memory_store import MemoryStore


def test_the_seconds_of_all_processes_add_up() -> None:
    store = MemoryStore()
    assert read_timings(store) == {}
    write_timings(store, "one-1", {"engine": 1.0, "decode": 9.0})
    write_timings(store, "one-1", {"engine": 2.0, "decode": 10.0})  # the same process, later
    write_timings(store, "one-2", {"engine": 4.04})
    assert read_timings(store) == {"decode": 10.0, "engine": 6.0}


def test_a_person_reads_one_line() -> None:
    words = timings_words({"engine": 6.0, "wait_for_media": 2.0, "decode": 31.0})
    assert words is not None
    assert "engine 75%, waiting for the engine 0%, waiting for media 25%" in words
    assert "decoding 31.0 s" in words
    assert "\n" not in words
    assert timings_words({}) is None
