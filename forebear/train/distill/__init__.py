"""Distillation: a teacher answers, a verifier judges every answer, a student learns the kept ones.

Teachers, verifiers, the journal of finished samples and the rows that are written each have a
module; :mod:`forebear.train.distill.run` ties them together.
"""
