"""Compliance documents: every value bound to signed evidence, or shown as a claim or unknown.

``build`` collects the facts and renders the documents; nothing here trains, signs or decides
whether a law is met.
"""
