"""One place for randomness, threads and offline mode, set before a stage does anything."""

from __future__ import annotations

import os
import random

from forebear.errors import ConfigError


def configure(seed: int) -> None:
    """Seeds every generator in use and fixes what else could move a bit.

    Thread count is part of the result on a CPU (sums are split by thread), so it is fixed here:
    ``FOREBEAR_THREADS`` or the number of cores, at most 2 by default, so that laptops agree.
    Torch is touched only when it is installed, so light stages stay light.

    Args:
        seed: the stage's seed, in [0, 2^31).
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads()))
    # cuBLAS sums in one order only with a fixed workspace
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)


def threads() -> int:
    """Threads that a stage computes with.

    Raises:
        ConfigError: ``FOREBEAR_THREADS`` is no positive number.
    """
    wanted = os.environ.get("FOREBEAR_THREADS", str(min(2, os.cpu_count() or 1)))
    if not wanted.isdecimal() or int(wanted) == 0:
        raise ConfigError(f"{wanted[:40]!r} is no positive number", where="FOREBEAR_THREADS")
    return int(wanted)


def uses_bf16(precision: str) -> bool:
    """Whether forward passes are computed in bf16, by autocast; weights stay in fp32.

    Args:
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware multiplies it.
    Raises:
        ConfigError: ``bf16`` is asked of a graphics card that does not have it.
    """
    import torch

    if precision == "fp32":
        return False
    if torch.cuda.is_available():
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has_it:
            raise ConfigError(
                "this graphics card does not multiply bf16",
                where="precision",
                fix="set precision to fp32",
            )
        return has_it
    found = torch.cpu.get_capabilities()
    has_it = any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))
    return precision == "bf16" or has_it  # a processor without it computes the same, slower


def configure_torch(seed: int) -> None:
    """Seeds torch and numpy and asks torch for deterministic algorithms only."""
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(threads())
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries draw from the global generator
    transformers.set_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    # else every new tensor is first filled with NaN: a debugging aid that costs a tenth of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # untyped
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
