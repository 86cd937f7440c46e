"""Lets the machine loose on the rules, then on each of them broken: `make mutants`.

NEVA_MODEL_EXAMPLES is the number of runs on the real code, and the most a mutant may take.
"""

from __future__ import annotations

import sys
import time

from tests.ledger_model.machine import NUM_EXAMPLES, LedgerMachine, search
from tests.ledger_model.mutants import MUTANTS
from tests.ledger_model.watch import Violation


def main() -> int:
    """0 when the rules hold and no mutant survives."""
    started_s = time.process_time()
    LedgerMachine.num_runs = 0
    search(NUM_EXAMPLES)
    num_runs, num_survivors = LedgerMachine.num_runs, 0
    print(f"the rules hold in {num_runs} runs")
    for mutant in MUTANTS:
        LedgerMachine.num_runs = 0
        try:
            with mutant.alive():
                search(NUM_EXAMPLES, shrinks=False)
        except Violation as violation:
            print(f"{mutant}: found in run {LedgerMachine.num_runs}: {violation}", flush=True)
        else:
            print(f"{mutant}: SURVIVED {LedgerMachine.num_runs} runs", flush=True)
            num_survivors += 1
    cpu_s = time.process_time() - started_s
    print(
        f"mutants: rules=10 mutants={len(MUTANTS)} killed={len(MUTANTS) - num_survivors} "
        f"clean_runs={num_runs} cpu_s={cpu_s:.0f}"
    )
    return 1 if num_survivors else 0


if __name__ == "__main__":
    sys.exit(main())
