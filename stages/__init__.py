"""The pipeline's stages, one thin script each; run with ``python -m stages.<name>``."""
