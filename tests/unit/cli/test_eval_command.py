"""``forebear eval``: exit codes, and what needs the training library."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebear.cli import evalchild
from forebear.cli.eval import command
from forebear.errors import ConfigError, EnvironmentFailure, MissingExtra, UsageError
from forebear.formats import strictjson
from tests.unit.gate.folders import write_run, write_verdict
from tests.unit.gate.runs import settings
from tests.unit.gate.test_again import edit, repository


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value), result.output


@pytest.mark.parametrize(
    ("lost", "expected", "said"), [(0, 0, "PASS, as the results give it"), (60, 1, "FAIL")]
)
def test_recompute_exits_by_the_verdict(
    tmp_path: Path, lost: int, expected: int, said: str
) -> None:
    code, output = call("--recompute", repository(tmp_path, lost=lost))
    assert code == expected
    assert said in output


def test_recompute_of_an_edited_verdict_exits_1(tmp_path: Path) -> None:
    repository(tmp_path)
    edit(tmp_path / "data/eval/verdict/gate.json", lambda gate: gate.update(profile="release"))
    code, output = call("--recompute", tmp_path, "--json")
    assert code == 1
    body = json.loads(output)
    assert (body["verdict"], body["same"]) == ("PASS", False)
    assert body["fault"].startswith("profile is 'release'")


def test_a_suite_that_was_not_run_exits_3(tmp_path: Path) -> None:
    write_run(
        tmp_path / "data/measure/final", {"mc4": [1.0] * 200}, not_run={"alpaca_eval": "licence"}
    )
    write_run(tmp_path / "data/measure/base", {"mc4": [1.0] * 200})
    write_verdict(tmp_path, settings(margins={"mc4": 0.1}), "final", "base")
    assert call("--recompute", tmp_path)[0] == 3


def test_compare_shows_the_difference_and_refuses_what_is_not_comparable(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "a", {"mc4": [0.0] * 10 + [1.0] * 90})
    theirs = write_run(tmp_path / "b", {"mc4": [1.0] * 100})
    code, output = call("--compare", ours, theirs)
    assert code == 0
    assert "-0.1000" in output
    assert (
        json.loads(call("--compare", ours, theirs, "--json")[1])["comparison"]["candidate"] == "a"
    )
    other = write_run(tmp_path / "c", {"mc4": [1.0] * 100}, identity={"dtype": "float16"})
    with pytest.raises(ConfigError, match="dtype") as caught:
        call("--compare", ours, other)
    assert caught.value.exit_code == 2


def test_explain_exits_by_the_tasks_verdict(tmp_path: Path) -> None:
    bad, good = (repository(tmp_path / name, lost=lost) for name, lost in (("bad", 60), ("ok", 0)))
    words = [["--explain", "mc4", "--verdict", one / "data/eval/verdict"] for one in (bad, good)]
    assert [call(*one)[0] for one in words] == [1, 0]
    assert "60 lost" in call(*words[0])[1]
    assert json.loads(call(*words[0], "--json")[1])["pairs"][0]["b"] == 60


@pytest.mark.parametrize("words", [(), ("--plan", "--explain", "mc4")])
def test_exactly_one_thing_is_asked_for(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="exactly one"):
        call(*words)


# ── in a process of its own ────────────────────────────────────────────────────────────────────


def child(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """The library's process is this code instead; its words follow ``-m module``."""
    script = folder / "child.py"
    script.write_text(code, encoding="utf-8")
    monkeypatch.setattr(evalchild, "PYTHON", (sys.executable, str(script)))


ROW: dict[str, Any] = {
    "suite": "mc4", "shown_name": "mc4", "items": 200, "requests": 800, "judge_requests": 0,
    "prompt_tokens": 9, "completion_tokens": 0, "usd": 0.0, "minutes": 1.5, "reason": None,
}  # fmt: skip


def test_the_plan_says_how_many_items_a_margin_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = repository(tmp_path, lost=40) / "data/eval/verdict"
    params = tmp_path / "params.yaml"
    params.write_text("eval: {margins: {mc4: 0.05}}\n")
    child(monkeypatch, tmp_path, f"import json\nprint(json.dumps([{ROW!r}]))\n")
    code, output = call("--plan", "--params", params, "--verdict", verdict)
    assert code == 0
    assert "INCONCLUSIVE is likely if nothing changed: 200 items, about 495 are needed" in output
    assert "in all: 200 items, 800 requests" in output
    code, output = call("--plan", "--params", params, "--verdict", tmp_path / "no", "--json")
    assert json.loads(output)["plan"][0]["needed"] is None


def test_a_suite_that_cannot_be_run_makes_the_plan_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**ROW, "reason": "licence"}]
    child(monkeypatch, tmp_path, f"import json\nprint(json.dumps({rows!r}))\n")
    code, output = call("--plan", "--params", tmp_path / "none", "--verdict", tmp_path)
    assert code == 3
    assert "not run: licence" in output


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ModuleNotFoundError(\"No module named 'lm_eval'\")", MissingExtra),
        ("import sys; sys.exit('error: the key is wrong')", EnvironmentFailure),
        ("import sys; sys.stderr.write('error: bad params'); sys.exit(2)", ConfigError),
    ],
)
def test_a_child_that_breaks_down_is_an_error_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: type[Exception]
) -> None:
    child(monkeypatch, tmp_path, code)
    with pytest.raises(expected):
        call("--plan", "--verdict", tmp_path)


def test_a_suite_is_measured_by_the_library_and_its_exit_code_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    template = write_run(tmp_path / "t", {"mc4": [1.0]}, not_run={})
    code = (
        "import shutil, sys\n"
        "words = sys.argv[1:]\n"
        "assert words[:4] == ['-m', 'forebear.train.evaluate.measure', '--suite', 'mc4'], words\n"
        f"shutil.copytree({str(template)!r}, words[words.index('--out') + 1])\n"
    )
    child(monkeypatch, tmp_path, code)
    monkeypatch.setattr(evalchild, "find_spec", lambda name: name)
    assert call("--suite", "mc4", "--checkpoint", tmp_path, "--out", out)[0] == 0
    edit(out / "run.json", lambda run: run.update(not_run={"mc4": "sandbox"}))
    child(monkeypatch, tmp_path, "pass")
    assert call("--suite", "mc4", "--checkpoint", tmp_path, "--out", out)[0] == 3
    child(monkeypatch, tmp_path, "import sys; sys.exit(4)")
    assert call("--calibrate", "main", "--out", out)[0] == 4


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evalchild, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="torch") as caught:
        call("--calibrate", "main", "--out", "x")
    assert caught.value.exit_code == 4
    with pytest.raises(UsageError, match="where to write"):
        call("--suite", "mc4")


def test_what_it_reads_is_canonical_json(tmp_path: Path) -> None:
    folder = repository(tmp_path) / "data/eval/verdict"
    gate = folder / "gate.json"
    assert strictjson.parse_canonical(gate.read_bytes(), where="gate.json")
    gate.write_text(json.dumps(json.loads(gate.read_bytes()), indent=1))
    from forebear.errors import FormatError

    with pytest.raises(FormatError, match="canonical"):
        call("--explain", "mc4", "--verdict", folder)
