"""The ledger: what is done, claimed and committed, as files under the run's output prefix."""

from neva.ledger.ledger import Ledger, ShardState, select_rows
from neva.ledger.records import (
    Claim,
    Commit,
    FinishedRow,
    LedgerCorrupt,
    Manifest,
    PartRef,
    Release,
    ShardPlan,
    ShardRow,
    error_line,
)

__all__ = [
    "Claim",
    "Commit",
    "FinishedRow",
    "Ledger",
    "LedgerCorrupt",
    "Manifest",
    "PartRef",
    "Release",
    "ShardPlan",
    "ShardRow",
    "ShardState",
    "error_line",
    "select_rows",
]
