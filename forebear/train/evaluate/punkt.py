"""The sentence splitter that the verifiers of IFEval need, from the package itself.

lm-eval's verifiers import NLTK, which would fetch its ``punkt_tab`` model from the network, go on
without it, and fail after everything has been generated. The package carries a model of its own,
trained with NLTK's ``PunktTrainer`` on the text of ``pydoc_data.topics`` (PSF-2.0), so sentence
counts can differ from the stock model's; its digest is part of the task's.

``python -m forebear.train.evaluate.punkt FOLDER`` trains it again.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import sys
from pathlib import Path

from forebear.errors import EnvironmentFailure

_LANGUAGE = "tokenizers/punkt_tab/english"
_FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")


def punkt_folder() -> Path:
    """Folder of the package's own NLTK data."""
    return Path(str(importlib.resources.files("forebear").joinpath("data", "nltk")))


def punkt_digest(folder: Path | None = None) -> str:
    """SHA-256 over the model's files.

    Raises:
        EnvironmentFailure: a file is missing.
    """
    home = (folder or punkt_folder()) / _LANGUAGE
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            digest.update(hashlib.sha256((home / name).read_bytes()).digest())
        except OSError as error:
            raise EnvironmentFailure(
                "the sentence splitter for IFEval is missing (NLTK's punkt_tab)",
                where=str(home / name),
                fix="install forebear again, or point `measure.tasks.ifeval.punkt` at a folder of "
                "NLTK data that holds tokenizers/punkt_tab/english",
            ) from error
    return digest.hexdigest()


class _Active:
    """The folder in use, and whether NLTK knows it."""

    folder: Path | None = None


def use_punkt(folder: Path | None = None) -> None:
    """Lets NLTK find the model in ``folder``, or in the one named before, or in the package's own.

    Must run before lm-eval's verifiers are imported.

    Raises:
        EnvironmentFailure: a file is missing.
    """
    import nltk  # type: ignore[import-untyped]  # has no types

    if folder is not None or _Active.folder is None:
        chosen = folder or punkt_folder()
        punkt_digest(chosen)
        _Active.folder = chosen
    home = str(_Active.folder)
    if not nltk.data.path or nltk.data.path[0] != home:
        nltk.data.path.insert(0, home)


def active_digest() -> str:
    """Digest of the model in use."""
    return punkt_digest(_Active.folder)


def train(out: Path) -> None:
    """Writes a model trained on ``pydoc_data.topics`` to ``out``, four sorted text files."""
    from pydoc_data.topics import topics

    from nltk.tabdata import TabEncoder  # type: ignore[import-untyped]  # has no types
    from nltk.tokenize.punkt import PunktTrainer  # type: ignore[import-untyped]  # has no types

    trainer = PunktTrainer()
    trainer.train("\n".join(topics[name] for name in sorted(topics)), finalize=True)
    found, tabs = trainer.get_params(), TabEncoder()
    texts = {
        "abbrev_types.txt": tabs.set2txt(sorted(found.abbrev_types)),
        "collocations.tab": tabs.tups2tab(sorted(found.collocations)),
        "ortho_context.tab": tabs.ivdict2tab(dict(sorted(found.ortho_context.items()))),
        "sent_starters.txt": tabs.set2txt(sorted(found.sent_starters)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="")


if __name__ == "__main__":
    train(Path(sys.argv[1]))
