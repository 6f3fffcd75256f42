"""What people say of a step, entered in a real Chromium and shown where the step is."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from pydantic import SecretStr
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.settings import DashboardSettings
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_dashboard.serving import folder_source

from tests.e2e.dashboard_pages import served

SEARCH = MctsStarSettings(mode="collect", branch=2, stop_threshold=2.0, max_depth=4)
NOTE = "<b>31 + 3</b> is 34, not 35"


@pytest.fixture
def address(tmp_path: Path, search_folder: Callable[..., int]) -> Iterator[str]:
    """The dashboard of a work folder with one tree, served with the token "words"."""
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=6))
    search_folder(tmp_path, "a run", [Problem("What is 31 + 3?", RIGHT_ANSWER)], [phase], RandomModels(seed=1))
    with served(folder_source(tmp_path / "run.db", DashboardSettings(dashboard_token=SecretStr("words")))) as address:
        yield address


def test_a_step_is_annotated_seen_everywhere_and_the_annotation_removed(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/trees/1#node-1")
    detail = page.locator(".detail")
    expect(detail).to_contain_text("Nobody has annotated this step.")
    detail.get_by_label("Note").fill(NOTE)
    detail.get_by_label("Your name").fill("Ada")
    detail.get_by_label("Token").fill("words")
    detail.get_by_role("button", name="Wrong").click()
    expect(detail.get_by_role("status")).to_have_text(re.compile("Saved: (step|answer) wrong"))
    expect(detail.locator(".annotations li")).to_contain_text(NOTE)
    row = page.locator("#outline-1-1")
    expect(row).to_contain_text("people: ")
    faults = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [one["help"] for one in faults] == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0

    page.reload()
    expect(row).to_contain_text(" wrong")
    assert detail.get_by_label("Token").input_value() == "words", "the tab keeps it"
    canvas = page.locator("canvas[tabindex]")
    place = (
        "document.querySelector('.viewer').view.drawing.at(document.querySelector('.viewer').view.model.byId.get(1))"
    )
    x, y = page.evaluate(place)
    canvas.hover(position={"x": x, "y": y})
    expect(page.locator(".tip")).to_contain_text(f"wrong. {NOTE}")
    page.goto(f"{address}/runs/1")
    said = page.get_by_role("region", name="What people say")
    expect(said).to_contain_text(NOTE)
    said.get_by_role("link", name=re.compile("^1: ")).click()
    detail.get_by_role("button", name="Remove what Ada says").click()
    expect(detail).to_contain_text("Nobody has annotated this step.")
    expect(row).not_to_contain_text("people")
