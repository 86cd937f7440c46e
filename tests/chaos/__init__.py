"""Kills everything, at random, and looks whether anybody's answer suffers: see docs/chaos.md."""
