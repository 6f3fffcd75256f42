"""Log lines: what they are about, whoever writes them, as JSON and as text."""

import json
import logging
from collections.abc import Iterator

import pytest
from restmcts.adapters.observability import logs
from restmcts.messages.commands import AdvanceRun, AdvanceTrees

log = logging.getLogger("restmcts.somewhere")


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger, put back as it was; the command line may have set the package's own."""
    logger, package = logging.getLogger(), logging.getLogger("restmcts")
    handlers, levels = list(logger.handlers), (logger.level, package.level)
    package.setLevel(logging.NOTSET)
    yield
    logger.handlers[:] = handlers
    logger.setLevel(levels[0])
    package.setLevel(levels[1])


def test_json_lines_bear_the_ids_of_the_blocks_around_them(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("search", "json")
    with logs.about(runs=[1]), logs.about(trees=range(100), requests=[7]):
        log.warning("it is %s", "told\nin two lines")
    log.info("outside")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["service"] == "search"
    assert first["message"] == "it is told\nin two lines"
    assert (first["runs"], first["trees"][:3], len(first["trees"]), first["requests"]) == ([1], [0, 1, 2], 32, [7])
    assert (second["level"], second["runs"], second["trees"]) == ("info", [], [])


def test_errors_come_within_their_line(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("prm", "auto")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: bad" in json.loads(line)["error"], "what is no terminal gets JSON"


def test_text_names_the_ids_before_the_message(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("labels", "text")
    with logs.about(**logs.ids_of(AdvanceTrees(tree_ids=(4, 5)))):
        log.warning("hm")
    assert capsys.readouterr().err.endswith("WARNING labels trees=4,5: hm\n")
    assert logs.ids_of(AdvanceRun(run_id=3)) == {"runs": [3]}
