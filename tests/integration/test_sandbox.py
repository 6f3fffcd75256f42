"""Hostile programs in the sandbox: none harms, none is right, and the next verdict is correct."""

import os
import runpy
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import restmcts
from restmcts.adapters.sandbox.sandbox import Sandbox

FILE = Path(__file__).with_name("hostile_programs.py")
HOSTILE_PROGRAMS: dict[str, str] = runpy.run_path(str(FILE))["HOSTILE_PROGRAMS"]
SQUARE = "def f(x):\n    return x * x\n"
SQUARE_TESTS = "assert f(3) == 9\nassert f(-4) == 16\n"


class Canary:
    """A process and a file that nothing may touch."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "canary"
        self.file.write_text("alive")
        folder.chmod(0o777)
        self.file.chmod(0o666)
        self.process = subprocess.Popen(["sleep", "600"])

    def program(self, text: str) -> str:
        return text.replace("CANARY_PID", str(self.process.pid)).replace("CANARY", repr(str(self.file)))

    def is_well(self) -> bool:
        return self.process.poll() is None and self.file.read_text() == "alive"


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    one = Canary(tmp_path_factory.mktemp("canary"))
    yield one
    one.process.kill()
    one.process.wait()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(0.5, memory_bytes=512 * 1024**2) as one:
        assert one.missing() == ()
        yield one


@pytest.mark.parametrize("name", HOSTILE_PROGRAMS)
def test_a_hostile_program_is_not_right_and_harms_nothing(name: str, sandbox: Sandbox, canary: Canary) -> None:
    program = canary.program(HOSTILE_PROGRAMS[name])
    word = f"secret-{secrets.token_hex(4)}"
    each = f"    assert all(map(lambda x: candidate(x) == {word!r}, (1, 2)))\n"
    tests = f"def check(candidate):\n    assert candidate(2) == {word!r}\n{each}"
    found = sandbox.run_tests([program], "f", tests)
    assert found.num_passed == 0, found
    script = sandbox.run_script([program + "\nprint(f(2))\n"], "2\n")
    assert word.encode() not in script.output
    assert script.status != 0 or script.timed_out or b"root:" not in script.output
    assert sandbox.run_tests([SQUARE], "f", SQUARE_TESTS).num_passed == 2
    assert canary.is_well()


def test_nothing_is_left_running(sandbox: Sandbox) -> None:
    for name in ("threads", "a fork bomb", "a loop that ignores signals"):
        sandbox.run_tests([HOSTILE_PROGRAMS[name]], "f", "assert f(1) == 2")
    server = sandbox._server
    assert server is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    assert children == ""


def test_programs_end_with_the_one_who_asked() -> None:
    """A worker that is killed leaves no program and no server behind."""
    code = (
        "from restmcts.adapters.sandbox.sandbox import Sandbox\n"
        "import threading, time\ns = Sandbox(60.0)\ns.missing()\n"
        "threading.Thread(target=s.run_script, args=(['while True: pass'], ''), daemon=True).start()\n"
        "time.sleep(1)\nprint(s._server.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        server = int(asking.stdout.readline())
        program = int(Path(f"/proc/{server}/task/{server}/children").read_text())
        asking.kill()
        asking.wait()
        for _ in range(100):
            if not any(Path(f"/proc/{pid}").exists() for pid in (server, program)):
                return
            time.sleep(0.05)
    raise AssertionError("something is left running")


@pytest.mark.parametrize("user", [10001, 0], ids=["somebody", "root without a right of root"])
def test_an_unprivileged_user_has_the_same_cage(user: int) -> None:
    """As in a container: a user without rights, who can get none."""
    python = next(
        (one for one in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")) if _others_run(one)),
        None,
    )
    if python is None or os.geteuid() != 0:
        pytest.skip("this user is unprivileged already, or nobody else can run Python")
    code = (
        f"import os, sys\nassert os.getuid() == {user}\n"
        f"sys.path[:0] = [{str(Path(restmcts.__file__).parents[1])!r}]\n"
        "import runpy\nfrom restmcts.adapters.sandbox.sandbox import Sandbox\n"
        f"HOSTILE_PROGRAMS = runpy.run_path({str(FILE)!r})['HOSTILE_PROGRAMS']\n"
        "with Sandbox(0.5, memory_bytes=512 * 1024**2) as sandbox:\n    assert sandbox.missing() == (), sandbox.missing()\n"
        "    for name, program in HOSTILE_PROGRAMS.items():\n"
        "        program = program.replace('CANARY_PID', str(os.getpid())).replace('CANARY', repr('/tmp/none'))\n"
        "        found = sandbox.run_tests([program], 'f', 'assert f(2) == \"secret-word\"')\n"
        "        assert found.num_passed == 0, name\n"
        f"    assert sandbox.run_tests([{SQUARE!r}], 'f', {SQUARE_TESTS!r}).num_passed == 2\n"
        "print('done', len(HOSTILE_PROGRAMS))\n"
    )
    ended = subprocess.run(
        ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", python, "-c", code],
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        env={"HOME": "/", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.stdout == f"done {len(HOSTILE_PROGRAMS)}\n", ended.stderr


def _others_run(python: str | None) -> bool:
    if python is None:
        return False
    try:
        return (
            subprocess.run(
                [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                user=10001,
                group=10001,
                extra_groups=[],
                cwd="/",
            ).returncode
            == 0
        )
    except OSError:
        return False
