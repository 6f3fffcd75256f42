"""Commands that people are given to type: a shell reads folders and names as they are meant."""

import re
import shlex
from pathlib import Path

from restmcts.reporting.run_states import work_command

ROOT = Path(__file__).parents[3]
BARE = re.compile(
    r"(?:--(?:workdir|dir|out)|runs (?:work|resume|show|spec|clone|watch|cancel)) \{(?!\{)(?!\w*\.?quote\()"
)
BARE_IN_PAGES = re.compile(r"restmcts [\w ]*\{\{(?![^}]*\|shell|[^}]*\.place)[^}]*\}\}")


def test_a_shell_reads_folder_and_name_as_one_word_each() -> None:
    words = shlex.split(work_command("it's <my> run", Path("my folder/$x")))
    assert words == ["restmcts", "runs", "work", "it's <my> run", "--workdir", "my folder/$x"]


def test_every_printed_command_quotes_its_names_and_folders() -> None:
    sources = [file for part in ("cli", "services", "shared") for file in (ROOT / part).rglob("*.py")]
    pages = [file for part in ("cli", "services", "shared") for file in (ROOT / part).rglob("*.j2")]
    assert len(sources) > 300 and len(pages) > 20
    found = [
        f"{file.name}: {line.strip()}"
        for file in sources
        for line in file.read_text().splitlines()
        if BARE.search(line)
    ]
    found += [f"{file.name}: {one}" for file in pages for one in BARE_IN_PAGES.findall(file.read_text())]
    assert found == []
