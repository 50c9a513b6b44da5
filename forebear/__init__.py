"""Forebear: every checkpoint knows its ancestors."""
