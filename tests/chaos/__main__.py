"""`make chaos`: runs under random kills until NEVA_CHAOS_KILLS have been dealt out.

    NEVA_CHAOS_KILLS      processes hit, all runs together (1000)
    NEVA_CHAOS_SEED       what everything random derives from (drawn, and printed)
    NEVA_CHAOS_MODEL      stub | demo: who answers (stub)
    NEVA_CHAOS_FORM       mixed | kills | redelivery: every eighth run, none or all measure how long
                          a killed worker's shards wait (mixed)
    NEVA_CHAOS_RUN        only the run of this number, to see a failure again
    NEVA_CHAOS_KEEP       where folders of failed runs go (/tmp/neva-chaos)

Ends with 1 when a row was lost, doubled or different, a run was stuck, or something was left.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import Chaos
from tests.chaos.jobs import JobKind, write_media


def main() -> int:
    num_kills = int(os.environ.get("NEVA_CHAOS_KILLS", "1000"))
    seed = int(os.environ.get("NEVA_CHAOS_SEED", random.SystemRandom().randrange(1_000_000)))
    is_stub = os.environ.get("NEVA_CHAOS_MODEL", "stub") == "stub"
    form = os.environ.get("NEVA_CHAOS_FORM", "mixed" if is_stub else "kills")
    only = os.environ.get("NEVA_CHAOS_RUN")
    keep = Path(os.environ.get("NEVA_CHAOS_KEEP", "/tmp/neva-chaos"))
    print(f"chaos: NEVA_CHAOS_SEED={seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up, too
    base = Path(tempfile.mkdtemp(prefix="nvc-", dir="/tmp"))
    try:
        if is_stub:
            media = write_media(base / "media", num_clips=12, questions_per_clip=60)
            kind = JobKind(media, row_s=0.15)
        else:
            media = write_media(base / "media", num_clips=12, questions_per_clip=15)
            kind = JobKind(media, row_s=None, tensor_parallel_size=1 + seed % 2)
        chaos = Chaos(base, seed, kind, keep)
        chaos.undisturbed()
        if only is not None:
            chaos.one(int(only))
        number = 0
        while only is None and chaos.totals.kills < num_kills:
            if form == "redelivery" or (form == "mixed" and number % 8 == 7):
                chaos.redelivery(number)
            else:
                chaos.one(number)
            number += 1
            print(chaos.totals.line(counted=is_stub), flush=True)
        for name, count in sorted(chaos.totals.hits.items()):
            print(f"  {name}: {count}")
        print(f"  of all, while rows were computed: {chaos.totals.at_work}")
        print(chaos.totals.line(counted=is_stub))
        return 1 if chaos.totals.bad else 0
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
