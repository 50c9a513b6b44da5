"""Starts the processes of a training stage, and writes the files that a cluster needs for it."""
