"""Small Python means what Python says it means: programs at random, interpreted, and run by Python
in the sandbox.
"""

import random
from collections.abc import Iterator

from restmcts.adapters.sandbox.sandbox import Sandbox
from restmcts.domain.tasks.small_python import SmallPythonError, small_program

FAILED = "failed"
NUM_PROGRAMS, NUM_CALLS = 300, 3


class Writer:
    """Writes programs whose expressions have the types that they need; indices, divisors and empty
    lists may fail.
    """

    def __init__(self, seed: int) -> None:
        self.generator = random.Random(seed)
        self.lists, self.numbers = ["x"], list[str]()

    def program(self) -> str:
        lines = list(self.lines())
        return "\n".join([*lines, f"return {self.list(2) if self.generator.random() < 0.5 else self.number(2)}"])

    def lines(self) -> Iterator[str]:
        for _ in range(self.generator.randint(0, 4)):
            name, is_list = self.generator.choice("xyz"), self.generator.random() < 0.7
            yield f"{name} = {self.list(2) if is_list else self.number(2)}"
            self.lists = [one for one in self.lists if one != name] + [name] * is_list
            self.numbers = [one for one in self.numbers if one != name] + [name] * (not is_list)

    def list(self, depth: int) -> str:
        if not depth or self.generator.random() < 0.2:
            return self.generator.choice(self.lists) if self.lists else "[1 for v in x]"
        inner = self.list(depth - 1)
        forms = (
            f"sorted({inner})",
            f"{inner}[::-1]",
            f"{inner}[{self.small()}:{self.small()}]",
            f"{inner} + {self.list(depth - 1)}",
            f"[{self.number(1, 'v')} for v in {inner}]",
            f"[v for v in {inner} if {self.number(1, 'v')} {self.sign('== != < <= > >=')} {self.small()}]",
        )
        return self.generator.choice(forms)

    def number(self, depth: int, name: str | None = None) -> str:
        names = [*self.numbers, *([name] * 4 if name else [])]
        if not depth or self.generator.random() < 0.2:
            return self.generator.choice(names) if names else str(self.small())
        left, right = self.number(depth - 1, name), self.number(depth - 1, name)
        forms = [f"({left} {self.sign('+ - * % //')} {right})", f"-{left}"]
        if self.lists:
            forms += [
                f"{self.sign('sum len max min')}({self.list(depth - 1)})",
                f"{self.list(depth - 1)}[{self.small()}]",
            ]
        return self.generator.choice(forms)

    def small(self) -> int:
        return self.generator.randint(-2, 4)

    def sign(self, among: str) -> str:
        return self.generator.choice(among.split())


def test_programs_at_random_return_what_python_returns() -> None:
    generator = random.Random(0)
    bodies = [Writer(seed).program() for seed in range(NUM_PROGRAMS)]
    found = []
    for number, body in enumerate(bodies):
        for _ in range(NUM_CALLS):
            given = [generator.randint(-3, 9) for _ in range(generator.randint(0, 5))]
            found.append((number, given, _interpreted(body, given)))
    failed = sum(wanted == FAILED for _, _, wanted in found)
    assert 20 < failed < len(found) / 2, "programs that fail are among them, and are not most"
    functions = "\n".join(_named(number, body) for number, body in enumerate(bodies))
    names = ", ".join(f"f{number}" for number in range(len(bodies)))
    program = f"{functions}\ndef f(number, x):\n    try:\n        return ({names})[number](x)\n    except Exception:\n"
    tests = "\n".join(f"assert f({number}, {given!r}) == {wanted!r}" for number, given, wanted in found)
    with Sandbox(20.0) as sandbox:
        run = sandbox.run_tests([f"{program}        return {FAILED!r}\n"], "f", tests)
    assert (run.num_passed, run.num_tests) == (len(found), len(found)), run.failure


def _interpreted(body: str, given: list[int]) -> object:
    try:
        return small_program(body)(given)
    except SmallPythonError:
        return FAILED


def _named(number: int, body: str) -> str:
    return "\n".join([f"def f{number}(x):", *(f"    {line}" for line in body.splitlines())])
