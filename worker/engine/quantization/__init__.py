"""Quantized matrices of the language model: how they are found, kept and computed with."""
