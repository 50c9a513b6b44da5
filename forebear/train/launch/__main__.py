"""Writes what a cluster needs to run ``cpt``: ``python -m forebear.train.launch --out FOLDER …``.

From the section ``cpt`` of ``params.yaml``: the Slurm job file for kind ``slurm``, and conversion,
launch and data index for engine ``megatron``. Nothing is started.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forebear.errors import ConfigError, ForebearError, UsageError
from forebear.train.cpt_params import CptParams
from forebear.train.stage import read_params, stage_seed, validate_section


def write_files(
    params: CptParams, out: Path, *, base: Path | None, shards: Path | None, checkpoint: Path | None
) -> list[Path]:
    """Writes the files that the params call for below ``out``; their paths.

    Raises:
        ConfigError: the params call for none.
        UsageError: Megatron's need the three paths.
    """
    files: dict[str, str] = {}
    if params.launch.kind == "slurm" and params.engine == "hf":
        from forebear.train.launch.slurm import render_job

        files["cpt.sbatch"] = render_job(params)
    if params.engine == "megatron":
        if base is None or shards is None or checkpoint is None:
            raise UsageError("engine megatron needs --base, --shards and --checkpoint")
        files |= _megatron_files(params, out.absolute(), base, shards, checkpoint)
    if not files:
        raise ConfigError(
            f"kind {params.launch.kind} and engine {params.engine} need no files",
            where="params.yaml: cpt.launch",
            fix="run the stage: dvc repro cpt",
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in files]


def _megatron_files(
    params: CptParams, out: Path, base: Path, shards: Path, checkpoint: Path
) -> dict[str, str]:
    from forebear.train.launch.megatron import render_files, write_index
    from forebear.train.packed import Shards

    data = Shards(shards)
    out.mkdir(parents=True, exist_ok=True)
    n_sequences = len(data.train_NT)
    write_index(
        out / "train.idx",
        n_sequences=n_sequences,
        length_tokens=data.length_tokens,
        dtype=str(data.meta["dtype"]),
    )
    return render_files(
        params,
        base=base.absolute(),
        shards=shards.absolute(),
        work=out,
        out=checkpoint.absolute(),
        n_sequences=n_sequences,
        length_tokens=data.length_tokens,
        seed=stage_seed(params.seed, "cpt"),
    )


def main() -> int:
    """Writes the files and names them."""
    parser = argparse.ArgumentParser(prog="python -m forebear.train.launch", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--base", type=Path, help="checkpoint that training starts from")
    parser.add_argument("--shards", type=Path, help="packed sequences")
    parser.add_argument("--checkpoint", type=Path, help="where the trained checkpoint is to lie")
    options = parser.parse_args()
    try:
        values, _ = read_params()
        params = validate_section(CptParams, "cpt", values)
        assert isinstance(params, CptParams)  # noqa: S101  # the model asked for
        written = write_files(
            params,
            options.out,
            base=options.base,
            shards=options.shards,
            checkpoint=options.checkpoint,
        )
    except ForebearError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stderr.write("".join(f"{file}: written, not run\n" for file in written))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
