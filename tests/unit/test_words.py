"""Pages, help, messages and docstrings use the field's words: see docs/glossary.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN_WORDS = {
    r"told|tells?|telling": "say, report, return, or distinguish",
    r"begun": "started",
    r"mend(?:s|ed|ing)?": "fix",
    r"bells?|rings?|ringing": "wake",
    r"strands?": "coroutine",
    r"gates?|gated(?! best-of-n)": "stop threshold of a search, promotion of a checkpoint",
    r"judged|judging": "evaluate; a judge is a language model",
    r"stands?|standing|stood": "is, represents; stale; summary",
    r"held(?![ -]out)": "leased, locked, or kept",
    r"held back": "rejected",
    r"l(?:ies|ie|ay|ain) (?:at|beside|in|ready|under|where)": "is",
    r"taken for": "mistaken for, accepted as",
    r"for ever": "forever",
    r"ways? (?:on|out)": "what to do; resume hint",
    r"at equal cost": "compute-matched",
    r"given samples": "shared sample pool",
    r"oracles?": "true answers; no answer leakage",
}
AVOIDED = {
    re.compile(rf"(?<![\w-])(?:{word})(?![\w-])", re.IGNORECASE): instead for word, instead in PLAIN_WORDS.items()
}
# Names, quoted or as the head of an entry in a docstring, are what they are.
NAMES = re.compile(r'```.*?```|`[^`\n]+`|"\w+"|^ *\w+: |\]\([^)]*\)', flags=re.DOTALL | re.MULTILINE)


def avoided(text: str) -> list[str]:
    prose = " ".join(NAMES.sub(" ", text).split())
    return [f"{found.group()!r}: {instead}" for word, instead in AVOIDED.items() for found in word.finditer(prose)]


def pages() -> list[Path]:
    return [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("services/**/templates/*.j2"),
        *ROOT.glob("cli/**/templates/*.j2"),
    ]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield every text of more than a word in a module: docstrings, help, messages, by line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


def test_pages_use_plain_words() -> None:
    found = {str(page.relative_to(ROOT)): avoided(page.read_text(encoding="utf-8")) for page in pages()}
    assert len(found) > 20
    assert {page: words for page, words in found.items() if words} == {}


@pytest.mark.parametrize("folder", ["shared/src", "services", "cli/src", "examples"])
def test_texts_in_the_code_use_plain_words(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    found = {
        f"{path.relative_to(ROOT)}:{line}": words
        for path in modules
        for line, text in texts(path.read_text(encoding="utf-8"))
        if (words := avoided(text))
    }
    assert found == {}


def test_a_word_to_avoid_is_found_in_prose_and_passed_over_in_names() -> None:
    assert avoided("The server tells\nno tokens.") == ["'tells': say, report, return, or distinguish"]
    assert avoided("a row taken\nfor right") == ["'taken for': mistaken for, accepted as"]
    assert avoided('begun: the text of `begun`, "gate", held-out problems, gated-best-of-n') == []
