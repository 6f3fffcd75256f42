"""Put each fault of `mutations.toml` into a copy of the tree, and say which tests notice it.

`make mutations`, or `python tests/mutations/run.py [WORD...]`: only faults whose names have all the
words. Exits with 1 if a fault survives its tests, or can no longer be put in.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("shared", "services", "cli", "infra", "tests", "docs", "pyproject.toml")
TIME_LIMIT_SECONDS = 120  # of a test; a fault that makes one wait for ever is noticed too
TESTS_FAILED = 1  # pytest's exit code; errors of collection and usage have others


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault: `new` in place of `old`, which stands once in `file`; `tests` must notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, tree: Path) -> bool:
        """Put the fault into a tree; return whether it could be."""
        path = tree / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(self.old) != 1:
            return False
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return True


def read_mutations(path: Path) -> list[Mutation]:
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def copy_tree(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder / name)
    return folder


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests against a copy of the tree; return pytest's exit code and what it printed."""
    # What is installed points to the original; PYTHONPATH goes before it.
    sources = [tree / "shared" / "src", tree / "cli" / "src", *(tree / "services").glob("*/src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources)), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=no", f"--timeout={TIME_LIMIT_SECONDS}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def try_out(mutation: Mutation) -> tuple[bool, str]:
    """Return whether the fault is noticed, and a line that says by what."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        if not mutation.apply(tree):
            return False, f"DOES NOT APPLY  {mutation.name}: its old text does not stand once in {mutation.file}"
        code, output = run_tests(tree, mutation.tests)
    failed = re.findall(r"^FAILED [^:]*::(.*?)(?: - .*)?$", output, flags=re.MULTILINE)
    if code == TESTS_FAILED and failed:
        return True, f"killed    {mutation.name}\n          by {failed[0]}"
    if code == 0:
        return False, f"SURVIVED  {mutation.name}: {', '.join(mutation.tests)} pass"
    return False, f"NOT TRIED {mutation.name}: pytest ended with {code}\n{output[-2000:]}"


def main(words: Sequence[str]) -> int:
    everything = read_mutations(Path(__file__).with_name("mutations.toml"))
    mutations = [mutation for mutation in everything if all(word in mutation.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        code, output = run_tests(
            copy_tree(Path(folder)), sorted({test for mutation in mutations for test in mutation.tests})
        )
    if code != 0:
        print(f"the tests fail without any fault:\n{output[-4000:]}")
        return 1
    num_killed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for killed, line in pool.map(try_out, mutations):
            num_killed += killed
            print(line, flush=True)
    print(f"{num_killed} of {len(mutations)} faults are noticed")
    return int(num_killed != len(mutations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
