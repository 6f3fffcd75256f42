"""The command line as its image has it: without torch, numpy and the clients of hub and servers."""

import json
import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

COMMANDS = """
import contextlib, io, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT, COMMANDS = json.loads(sys.argv[1])
sys.meta_path.insert(0, Absent())
from restmcts_cli.main import run

found = []
for words in COMMANDS:
    sys.argv = ["restmcts", *words]
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            run()
        except SystemExit as end:
            found.append([end.code or 0, errors.getvalue()])
print(json.dumps(found))
"""
SERVER = "openai+http://127.0.0.1:1/v1?model=m"


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def installed(name: str, extras: frozenset[str], known: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Return the distributions that come with one, in its extras too."""
    if (name, extras) in known:
        return set()
    known.add((name, extras))
    found = {name}
    for line in distribution(name).requires or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra is not None and extra[1] not in extras:
            continue
        asked = re.search(r"\[([\w, -]+)\]", requirement)
        try:
            found |= installed(
                name_of(requirement), frozenset(asked[1].replace(" ", "").split(",")) if asked else frozenset(), known
            )
        except ModuleNotFoundError:  # of another system or Python
            continue
    return found


@pytest.fixture(scope="module")
def absent() -> list[str]:
    """The modules that the image has not."""
    there = installed("restmcts-cli", frozenset(), set())
    modules = packages_distributions()
    assert "torch" in modules and "sqlalchemy" in there
    return sorted(name for name, owners in modules.items() if not {name_of(owner) for owner in owners} & there)


def test_runs_are_stored_and_shown_without_what_models_need(absent: list[str], tmp_path: Path) -> None:
    assert {"torch", "numpy", "huggingface_hub", "httpx2"} <= set(absent)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    place = ("--workdir", str(tmp_path / "w"))
    asked = [
        ("--demo", "--quick"),
        ("demo:30", "--policy", "someone/model"),
        ("demo:30", "--policy", str(folder), "--value", "someone/prm?format=qwen-math-prm"),
        ("demo:30", "--policy", "someone/model", "--value", f"{SERVER}&format=judge"),
    ]
    commands = [("runs", "create", f"run-{number}", *words, *place) for number, words in enumerate(asked)]
    commands += [
        ("runs", "show", "run-0", *place),
        ("runs", "clone", "run-1", "again", *place),
        ("runs", "list", *place),
    ]
    needs_models = ("runs", "create", "other", "demo:30", "--policy", "smollm2", *place)
    given = json.dumps([absent, [*commands, needs_models]])
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS, given], capture_output=True, text=True, check=True, timeout=240
    )
    *fine, refused = json.loads(ended.stdout)
    assert [code for code, _ in fine] == [0] * len(commands), fine
    assert refused[0] == 2
    assert re.fullmatch(
        r"error: \w+ is not installed here, which this needs: .*\n", refused[1].splitlines(keepends=True)[-1]
    )
