"""Lets the machine loose on the rules, then on each of them broken: `make mutants`.

NEVA_MODEL_EXAMPLES is the number of runs on the real code, and the most a mutant may take. A mutant
that chance does not find in so many must do harm in its fixed scenario.
"""

from __future__ import annotations

import sys
import time

from tests.ledger_model.machine import NUM_EXAMPLES, LedgerMachine, search
from tests.ledger_model.mutants import MUTANTS, Mutant
from tests.ledger_model.scenarios import SCENARIOS, play
from tests.ledger_model.watch import Violation


def main() -> int:
    """0 when the rules hold and no mutant survives."""
    started_s = time.process_time()
    LedgerMachine.num_runs = 0
    search(NUM_EXAMPLES)
    num_runs, num_missed, num_survivors = LedgerMachine.num_runs, 0, 0
    print(f"the rules hold in {num_runs} runs")
    for mutant in MUTANTS:
        LedgerMachine.num_runs = 0
        try:
            with mutant.alive():
                search(NUM_EXAMPLES, shrinks=False)
        except Violation as violation:
            print(f"{mutant}: found in run {LedgerMachine.num_runs}: {violation}", flush=True)
        else:
            harm = _harm_in_scenario(mutant)
            told = f"not found in {LedgerMachine.num_runs} runs; its scenario: "
            print(f"{mutant}: {told}{harm or 'SURVIVED'}", flush=True)
            num_missed += 1
            num_survivors += harm is None
    cpu_s = time.process_time() - started_s
    print(
        f"mutants: rules=10 mutants={len(MUTANTS)} killed={len(MUTANTS) - num_survivors} "
        f"by_scenario_alone={num_missed - num_survivors} clean_runs={num_runs} cpu_s={cpu_s:.0f}"
    )
    return 1 if num_survivors else 0


def _harm_in_scenario(mutant: Mutant) -> Violation | None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.mutant == mutant.name)
    try:
        with mutant.alive():
            play(scenario)
    except Violation as violation:
        return violation
    return None


if __name__ == "__main__":
    sys.exit(main())
