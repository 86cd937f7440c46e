"""How far a run is, from its ledger alone: no Redis, no worker, no clock of ours is asked."""
