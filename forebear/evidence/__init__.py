"""Reads a release or a repository as evidence, without changing it and without believing it."""
