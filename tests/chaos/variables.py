"""Environment variables of the processes under test that only these tests know."""

from __future__ import annotations

from typing import Final

MARK: Final = "NEVA_CHAOS_MARK"  # in each of a run's processes: its folder
ROW_SECONDS: Final = "NEVA_CHAOS_ROW_S"  # how long the stub takes for a row; unset: no stub
COMPUTED: Final = "NEVA_CHAOS_COMPUTED"  # file to which the stub appends each row's id
SHARED_MEMORY: Final = "NEVA_CHAOS_SHM"  # folder instead of /dev/shm
