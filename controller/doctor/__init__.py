"""`neva doctor`: says of every part that a job relies on whether it works, and what to do."""
