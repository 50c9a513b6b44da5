"""A PKCS#11 token in software: SoftHSM with one P-256 key.

SoftHSM is a Debian package (softhsm2); the driver is the extra ``hsm``. Where one of them is
missing the tests that want a token are skipped and say so.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

PIN = "4711"
LABEL = "forebear test"
KEYID = 2
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")  # fmt: skip


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        uri: of its key.
        public: file with the public half.
        pin: file with the PIN.
        env: variables that a process needs to reach it.
    """

    uri: str
    public: Path
    pin: Path
    env: dict[str, str]


def require_softhsm() -> str:
    """Path of SoftHSM's module; skips the test when there is no token to be had."""
    module = next((name for name in _MODULES if Path(name).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed (apt-get install softhsm2)")
    if find_spec("pkcs11") is None:
        pytest.skip("the driver is not installed (pip install 'forebear[hsm]')")
    return module


@cache
def shared_token() -> Token:
    """The token of this test process: a PKCS#11 module reads its settings once in a process.

    Its key was imported, so that no test waits for a generator.
    """
    module = require_softhsm()
    folder = Path(tempfile.mkdtemp(prefix="forebear-softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    env = {"SOFTHSM2_CONF": str(config), "PYKCS11LIB": module}
    key = ec.generate_private_key(ec.SECP256R1())
    private = folder / "import.pem"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for words in (
        ["--init-token", "--free", "--so-pin", "0000"],
        ["--import", str(private), "--token", LABEL, "--id", f"{KEYID:02x}"],
    ):
        subprocess.run(
            ["softhsm2-util", *words, "--label", LABEL, "--pin", PIN],
            env={**os.environ, **env}, check=True, capture_output=True,
        )  # fmt: skip
    private.unlink()
    public = folder / "token.pub"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    pin = folder / "pin"
    pin.touch(mode=0o600)
    pin.write_text(f"{PIN}\n")
    return Token(f"hsm:{KEYID}?label=forebear+test", public, pin, env)
