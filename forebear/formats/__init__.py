"""Bytes to checked objects and back. Pure: no files, no keys, no network."""
