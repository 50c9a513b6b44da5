"""Decides whether a measured candidate may be released. Pure: item files in, verdict out."""
