"""Reading models: every kind of checkpoint behind one `Checkpoint` (see `base`)."""
