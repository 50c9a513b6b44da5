"""Hostile bytes: a coverage-guided fuzzer on every parser, and random changes of whole releases.

``make fuzz`` runs both for as long as it is told; ``make test`` runs a reduced count and every
input that was ever found.
"""
