"""Measures checkpoints. Deciding about them is ``forebear.gate``, which needs no torch."""
