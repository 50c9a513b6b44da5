"""The learning library: what the stages call. Needs ``forebear[train]``."""
