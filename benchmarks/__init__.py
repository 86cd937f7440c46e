"""Measurements of the engine against what people use today. Nothing here is part of a worker."""
