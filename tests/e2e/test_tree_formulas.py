"""LaTeX in the drawing of a tree and in what is saved of it, in a real Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_dashboard.serving import folder_source

from tests.e2e.dashboard_pages import ask, await_true, open_page, served

SEARCH = MctsStarSettings(mode="collect", branch=3, stop_threshold=2.0, roll_forward_steps=2, max_depth=6)
SVG = "{http://www.w3.org/2000/svg}"


class LatexModels(RandomModels):
    """Steps have formulas: a fraction, a root, an arrow, and one that KaTeX does not take."""

    def _text(self, number: int) -> str:
        math = (r"\frac{%d}{x^2} > 0", r"\sqrt{%d+x}", r"\vec{v}_{%d}", r"\unknown{%d}")[number % 4] % number
        return f"It costs $5; with ${math}$, it is known that the sum of all of them is larger.\n"


@pytest.fixture
def address(tmp_path: Path, search_folder: Callable[..., int]) -> Iterator[str]:
    """The dashboard of a work folder with one tree, whose steps have formulas."""
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=6))
    models = LatexModels(num_words=40, answer_rate=0.1)
    search_folder(tmp_path, "a run", [Problem("a problem", RIGHT_ANSWER)], [phase], models)
    with served(folder_source(tmp_path / "run.db")) as address:
        yield address


def test_latex_is_set_in_the_drawing_wrapped_into_its_room_and_saved(page: Page, address: str) -> None:
    open_page(page, address, "/trees/1")
    set_in = "view.model.visible.filter((node) => node.laid && node.laid.lines)"
    known = "view.model.visible.filter((node) => /frac|sqrt|vec/.test(node.step))"
    await_true(page, f"{known}.length > 5 && {known}.every((node) => node.laid && node.laid.lines)")
    assert ask(page, f"{set_in}.some((node) => node.laid.lines.length > 1)"), "long steps are wrapped"
    room = "Number(/px .*? ([0-9.]+) [0-9.]+ /.exec(node.laid.key)[1])"
    assert ask(page, f"{set_in}.every((node) => node.laid.lines.every((line) => line.width <= {room} + 1))")
    sources = "node.laid.lines.flatMap((line) => line.pieces).map((piece) => piece.text || '').join(' ')"
    assert ask(page, f"{known}.every((node) => !/frac|sqrt|vec/.test({sources}))")
    assert ask(page, "view.model.nodes.some((node) => node.step.includes('unknown'))"), "it stays as it was written"
    arrow = "document.querySelector('.outline svg').getBoundingClientRect().width"
    assert ask(page, arrow) > 1, "the page's policy lets KaTeX's arrows be seen"
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    text = download.value.path().read_text()
    picture = ElementTree.fromstring(text)
    fonts = {one.get("font-family") for one in picture.iter(f"{SVG}text")}
    assert {"KaTeX_Main, serif", "KaTeX_Math, serif"} <= fonts
    assert text.count("@font-face") == len(fonts - {None}), "the letters are in the file"
    assert "frac" not in text and "\\unknown" in text
    assert picture.findall(f".//{SVG}svg/{SVG}path"), "roots and arrows"
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
