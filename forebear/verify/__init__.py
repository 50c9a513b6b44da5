"""Checks C1 to C16: whether evidence holds, and what could not be checked."""
