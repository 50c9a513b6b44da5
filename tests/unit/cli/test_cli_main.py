"""The command: help without imports, errors once, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.cli import main as cli
from forebear.errors import EnvironmentFailure, FormatError
from tests.support.workspace import REPOSITORY, Workspace

HEAVY = ("dvc", "torch", "transformers", "pydantic", "numpy", "in_toto", "cryptography", "sigstore")


def _run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom forebear.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "loaded += [m for m in sys.modules if m.startswith('forebear.cli.') and m[13:] != 'main']\n"
        "raise SystemExit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", ["record", "keys", "doctor"])
def test_each_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(name, "--help") == 0
    assert f"forebear {name}" in capsys.readouterr().out.partition("Example:")[2]


def test_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("verfy") == 2
    caught = capsys.readouterr()
    assert "did you mean `forebear verify`?" in caught.err
    assert caught.out == ""


def test_unknown_option_and_missing_argument_are_usage_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("record") == 2
    assert _run("doctor", "--nonsense") == 2
    text = capsys.readouterr().err
    assert text.count("error:") == 2
    assert "see `forebear record --help`" in text


def test_error_is_shown_once_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise EnvironmentFailure("no disk", "here", "buy one")

    monkeypatch.setattr(cli.cli, "main", fail)
    assert _run("doctor") == 4
    assert capsys.readouterr().err == "error: here: no disk\n  fix: buy one\n"


def test_error_is_json_when_json_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise FormatError("bad byte", "x.json", "restore it")

    monkeypatch.setattr(cli.cli, "main", fail)
    assert _run("doctor", "--json") == 2
    caught = capsys.readouterr()
    assert caught.err == ""
    assert json.loads(caught.out) == {
        "schema": "forebear.error/v1",
        "error": {
            "kind": "FormatError", "what": "bad byte", "where": "x.json", "fix": "restore it"
        },
        "exit_code": 2,
    }  # fmt: skip


def test_json_after_the_separator_belongs_to_the_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise FormatError("bad")

    monkeypatch.setattr(cli.cli, "main", fail)
    _run("record", "x", "--", "tool", "--json")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(28, "No space left on device", "x"), 4, "error: x: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("oops"), 4, "internal error: RuntimeError: oops"),
    ],
)
def test_anything_else_ends_in_one_message(
    error: BaseException, code: int, text: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    assert _run("doctor") == code
    assert text in capsys.readouterr().err


def test_module_run_without_safe_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hashlib.py").write_text("raise SystemExit('planted module ran')")
    for flags, code in (((), 2), (("-P",), 0)):
        done = subprocess.run(
            [sys.executable, *flags, "-m", "forebear", "--help"],
            cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "planted" not in done.stderr


def test_keys_new_list_and_ensure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "keys")
    assert _run("keys", "new", "recorder", "--keys", folder, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert Path(made["private"]).stat().st_mode & 0o777 == 0o600
    assert _run("keys", "new", "recorder", "--keys", folder) == 2
    capsys.readouterr()
    assert _run("keys", "ensure", "--keys", folder, "--json") == 0
    created = json.loads(capsys.readouterr().out)["created"]
    assert [entry["role"] for entry in created] == ["owner"]
    assert _run("keys", "ensure", "--keys", folder) == 0
    assert capsys.readouterr().err == ""
    assert _run("keys", "list", "--keys", folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["keys"]
    assert [(row["role"], row["state"]) for row in rows] == [
        ("recorder", "ready"),
        ("owner", "ready"),
    ]
    assert rows[0]["keyid"] == made["keyid"]


def test_key_with_a_passphrase_is_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pass"
    file.touch(mode=0o600)
    file.write_text("correct horse\n")
    folder = str(tmp_path / "keys")
    assert _run("keys", "new", "owner", "--passphrase-file", str(file), "--keys", folder) == 0
    assert _run("keys", "list", "--keys", folder) == 0
    assert "locked" in capsys.readouterr().out


def test_doctor_finds_nothing_in_a_sound_repository(workspace: Workspace) -> None:
    done = workspace.run("forebear", "doctor", "--json")
    assert done.returncode == 0, done.stdout
    lines = {line["subject"]: line["state"] for line in json.loads(done.stdout)["lines"]}
    assert lines["git"] == "ok"
    assert lines["dvc lock"] == "ok"


def test_doctor_mends_an_empty_lock_and_repro_works_again(workspace: Workspace) -> None:
    workspace.write(".dvc/tmp/rwlock", "")
    assert "corrupted" in workspace.run("dvc", "repro", "make").stderr
    assert workspace.run("forebear", "doctor").returncode == 4
    done = workspace.run("forebear", "doctor", "--mend")
    assert done.returncode == 0, done.stdout
    assert "mended" in done.stdout
    workspace.repro("make")


def test_doctor_reports_open_and_missing_keys(workspace: Workspace) -> None:
    (workspace.keys / "recorder.pem").chmod(0o644)
    (workspace.keys / "owner.pem").unlink()
    done = workspace.run("forebear", "doctor")
    assert done.returncode == 4
    assert "chmod 600" in done.stdout
    assert "forebear keys new owner" in done.stdout
