"""The pages tell the truth: what they link to and name is there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name

import restmcts
import typer
import yaml
from restmcts.messages.routes import MESSAGES
from restmcts_cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"))
    if path.name != "0000-template.md"
]
MAX_README_LINES = 120
MAX_PROSE_CHARS = 100


def found_on_pages(look: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """Return what is found on each page where anything is."""
    assert len(PAGES) > 20
    return {str(page.relative_to(ROOT)): found for page in PAGES if (found := look(page))}


def test_links_lead_to_files() -> None:
    def broken(page: Path) -> list[str]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        return [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert found_on_pages(broken) == {}


def test_examples_on_the_pages_are_there() -> None:
    def missing(page: Path) -> list[str]:
        named = re.findall(r"examples/[\w/-]+\.\w+", page.read_text(encoding="utf-8"))
        return [name for name in named if not (ROOT / name).is_file()]

    assert found_on_pages(missing) == {}


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_lead_to_headings() -> None:
    def broken(page: Path) -> list[str]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text)
        return [f"{file}#{name}" for file, name in links if name not in headings(page.parent / file if file else page)]

    assert found_on_pages(broken) == {}
    assert "what-a-run-will-take" in headings(ROOT / "docs/running.md")


def navigation(entry: object) -> Iterator[str]:
    """Yield the pages that a part of the navigation of the site names."""
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from navigation(part)


def test_the_site_has_every_page_once_and_no_other() -> None:
    named = list(navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/reference/*.md"), ROOT / "docs/decisions/README.md"]
    # changes.md is CHANGELOG.md
    assert sorted(named) == sorted(["changes.md", *(str(page.relative_to(ROOT / "docs")) for page in pages)])


def test_what_the_reference_describes_is_there() -> None:
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    described = re.findall(r"^::: ([\w.]+)$", page, flags=re.MULTILINE)
    assert len(described) > 5
    for name in described:
        resolve_name(name)
    members = {name for found in re.findall(r"members: \[(.*)\]", page) for name in found.split(", ")}
    assert members == set(restmcts.__all__) - {"__version__"}


def test_the_versions_of_the_site_are_pinned() -> None:
    lines = (ROOT / "infra/docs/requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins and [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []


def command_paths() -> set[str]:
    found = set()

    def walk(command: object, path: str) -> None:
        found.add(path)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


def code_of(page: Path) -> list[str]:
    return re.findall(r"```.*?```|`[^`]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_commands_on_the_pages_exist() -> None:
    known = command_paths() - {""}

    def unknown(page: Path) -> list[str]:
        named = re.findall(r"(?:^|[\s`/])(?:restmcts|run --rm cli) ((?:[a-z-]+ ?){1,2})", " ".join(code_of(page)))
        commands = (name.split() for name in named if not name.startswith("-"))
        return [" ".join(words) for words in commands if not {words[0], " ".join(words[:2])} & known]

    assert found_on_pages(unknown) == {}


def test_make_targets_on_the_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))

    def unknown(page: Path) -> list[str]:
        named = re.findall(r"(?:^|[\s`])make ([a-z-]+)", "\n".join(code_of(page)))
        return [name for name in named if name not in targets]

    assert found_on_pages(unknown) == {}


def test_every_target_is_phony() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


def contributing() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_layout_names_every_part_of_the_shared_package_and_no_other() -> None:
    named = set(re.findall(r"^\| · `([\w.]+)/?` \|", contributing(), flags=re.MULTILINE))
    there = {path.name for path in (ROOT / "shared/src/restmcts").iterdir() if not path.name.startswith((".", "_"))}
    assert named == there - {"py.typed"}


def test_folders_of_the_layout_exist() -> None:
    folders = re.findall(r"^\| `([\w/]+/)` \|", contributing(), flags=re.MULTILINE)
    assert len(folders) > 3
    assert [name for name in folders if not (ROOT / name.replace("NAME", "trainer")).is_dir()] == []


def test_messages_named_as_examples_have_those_wire_names() -> None:
    named = re.findall(r"\(`([A-Z]\w+)`,\s(?:wire\sname\s)?`([a-z_.]+)`\)", contributing())
    assert len(named) == 2
    assert {wire: MESSAGES[wire].__name__ for _, wire in named} == {wire: name for name, wire in named}


def test_decisions_have_numbers_of_their_own_and_titles_that_name_them() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    first_lines = [page.read_text(encoding="utf-8").partition("\n")[0] for page in pages[1:]]
    assert [line for line, number in zip(first_lines, numbers[1:], strict=True) if f"# {number}. " not in line] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_prose_is_narrow() -> None:
    def wide(page: Path) -> list[str]:
        if page.parent.name == "reference":
            return []
        text = page.read_text(encoding="utf-8")
        if page.name != "README.md":  # whose first screen is code too
            text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return [line for line in text.splitlines() if len(line) > MAX_PROSE_CHARS and not line.startswith("|")]

    assert found_on_pages(wide) == {}
