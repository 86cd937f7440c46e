"""The manifest, as commands take it: they tell of its job, whoever wrote it."""

from __future__ import annotations

from neva.ledger import Ledger, LedgerCorrupt, Manifest, layout


def read_manifest(ledger: Ledger) -> Manifest | None:
    """None: there is none yet. Raises LedgerCorrupt, also for a job that can't be told about."""
    manifest = ledger.read_manifest()
    if manifest is not None:
        metadata = manifest.job.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str) or not isinstance(manifest.job.get("spec"), dict):
            raise LedgerCorrupt(f"{layout.MANIFEST}: its job has no name, or no spec")
    return manifest
