"""Arithmetic before a run: which base model, and whether a recipe fits its hardware. No torch."""
