"""The pages tell the truth: what they link to and name is there."""

import re
from pathlib import Path

import pytest
import typer
from restmcts_cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"))
    if path.name != "0000-template.md"
]
MAX_README_LINES = 120
MAX_PROSE_CHARS = 100


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def command_paths() -> set[str]:
    found = set()

    def walk(command: object, path: str) -> None:
        found.add(path)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_on_the_pages_exist(page: Path) -> None:
    known = command_paths()
    code = re.findall(r"```.*?```|`[^`]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"(?:^|[\s`/])(?:restmcts|run --rm cli) ((?:[a-z-]+ ?){1,2})", " ".join(code))
    for words in (name.split() for name in named if not name.startswith("-")):
        assert any(" ".join(words[:count]) in known - {""} for count in (1, 2)), (page_id(page), words)


def test_the_readme_is_short_and_its_prose_narrow() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES
    assert [line for line in lines if len(line) > MAX_PROSE_CHARS] == []
