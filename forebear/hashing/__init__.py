"""Reads files and gives digests: path rules, the engine, the digest cache of the recorder."""
