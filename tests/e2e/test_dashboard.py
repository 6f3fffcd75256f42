"""The dashboard in a real Chromium: a run that goes on, trees to look into, text from strangers,
and what axe-core says of it.

RESTMCTS_SCREENSHOTS names a folder for pictures of every page, in light and dark, wide and narrow.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.folder_lock import lock_folder, name_run
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.forked_commands import ForkedCommand
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from sqlalchemy import update

from tests.e2e.dashboard_pages import ask, await_true, open_page, place_of

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
LATEX = "Let $f(x) = \\frac{x^2}{2}$. It costs $5 or $6. What is \\[\\int_0^1 f\\]"
LATEX += ' Say $\\text{<i style="color:red">}$.'
BRANCHES = MctsStarSettings(
    mode="collect", branch=3, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=6
)
BUSHY = MctsStarSettings(
    mode="collect", branch=6, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=9
)
FRAME_MILLISECONDS = 50.0


def collect(name: str, search: MctsStarSettings, iterations: int) -> SearchPhase:
    return SearchPhase(name, 1, "collect", "train", "base", "value-0", search, Budget(iterations=iterations))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    """Run 1: trees 1 to 3 and, of the same problems, 4 to 6; run 2: tree 7, of more than 1,000
    nodes.
    """
    path = tmp_path_factory.mktemp("dashboard")
    problems = [Problem(question, RIGHT_ANSWER) for question in (HOSTILE, LATEX, "plain")]
    phases = [collect("collect-1", BRANCHES, 12), collect("collect-2", BRANCHES, 20)]
    search_folder(path, "small", problems, phases, RandomModels(seed=1))
    search_folder(
        path,
        "large",
        [Problem("a large tree", RIGHT_ANSWER)],
        [collect("collect-1", BUSHY, 330)],
        RandomModels(num_words=90, answer_rate=0.1),
    )
    return path


@pytest.fixture(scope="module")
def dashboard(start: Callable[..., ForkedCommand], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Start `restmcts ui` on a work folder; return its address."""

    def serve(workdir: Path) -> str:
        output = tmp_path_factory.mktemp("ui") / "output"
        process = start(output, "ui", "--workdir", workdir, "--port", 0)
        for _ in range(600):
            found = re.search(r"http://[0-9.:]+", output.read_text())
            if found is not None:
                return found.group()
            assert process.poll() is None, output.read_text()
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise TimeoutError(output.read_text())

    return serve


@pytest.fixture(scope="module")
def address(dashboard: Callable[[Path], str], folder: Path) -> str:
    return dashboard(folder)


def test_a_run_that_goes_on_is_seen_to_advance(
    page: Page, dashboard: Callable[[Path], str], folder: Path, tmp_path: Path
) -> None:
    """Its rows change as workers change them, one tree after the other; nobody reloads the page."""
    shutil.copytree(folder, tmp_path / "work")
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    phase_id = 2
    with database.transaction() as transaction:
        transaction.execute(update(RUNS).where(RUNS.c.id == 1).values(state="running", finished_at=None))
        transaction.execute(update(PHASES).where(PHASES.c.id == phase_id).values(state="searching"))
        unfinished = {"state": "searching", "ended_at": None}
        transaction.execute(update(TREES).where(TREES.c.phase_id == phase_id).values(**unfinished))
    page.goto(dashboard(tmp_path / "work") + "/")
    page.get_by_role("link", name="small").click()
    expect(page.locator("#summary .state")).to_have_text(re.compile("waiting"))
    expect(page.locator("#summary .alert")).to_contain_text("restmcts runs work small --workdir ")
    lock = lock_folder(tmp_path / "work")
    name_run(lock, 1)
    expect(page.locator("#summary .state")).to_have_text(re.compile("running"))
    row = page.locator("#phases tr", has_text="collect-2")
    expect(row).to_contain_text("0 / 3")
    for number, tree_id in enumerate((4, 5, 6), start=1):
        with database.transaction() as transaction:
            ended = {"state": "labelled", "ended_at": moment()}
            transaction.execute(update(TREES).where(TREES.c.id == tree_id).values(**ended))
        expect(row).to_contain_text(f"{number} / 3", timeout=10_000)
    with database.transaction() as transaction:
        runs.set_phase(transaction, phase_id, PhaseState.DONE)
        runs.finish_run(transaction, 1, RunState.DONE)
    expect(page.locator("#summary .state")).to_have_text(re.compile("done"), timeout=10_000)
    expect(page.locator("#lineage")).to_contain_text("value-0")
    lock.close()
    database.close()


def test_a_tree_is_folded_hovered_over_opened_and_played_again(page: Page, address: str) -> None:
    open_page(page, address, "/trees/4")
    canvas = page.locator("canvas[tabindex]")
    num_nodes = ask(page, "view.model.visible.length")
    child = ask(page, "view.model.root.children.find((node) => node.children.length).node_id")

    canvas.hover(position=place_of(page, child))
    tip = page.locator(".tip")
    expect(tip).to_be_visible()
    for words in ("V ", "n ", "m ", "r ", "w ", "v ", "made by response 1", "scored by response"):
        expect(tip).to_contain_text(words)

    canvas.dblclick(position=place_of(page, child))
    num_folded = ask(page, "view.model.visible.length")
    assert num_folded < num_nodes
    canvas.focus()
    page.keyboard.press("Space")
    assert ask(page, "view.model.visible.length") == num_nodes

    canvas.click(position=place_of(page, child))
    detail = page.locator(".detail")
    expect(detail).to_contain_text("The whole partial solution")
    made = detail.locator("details").first
    expect(made.locator("summary")).to_contain_text("made it; base")
    made.locator("summary").click()
    sent = json.loads(made.locator("pre").first.inner_text())
    assert sent["steps"] == []
    assert sent["num_samples"] == 3

    slider = page.get_by_label("Responses that the search has read")
    last = int(slider.get_attribute("max") or 0)
    slider.fill("0")
    assert ask(page, "view.model.visible.length") == 1
    counts = []
    for frame in range(1, last + 1):
        slider.fill(str(frame))
        counts.append(ask(page, "view.model.nodes.filter((node) => node.shown).length"))
    assert counts == sorted(counts)
    assert counts[-1] == ask(page, "view.model.nodes.length") > counts[0] > 1
    page.get_by_role("button", name="Replay").click()
    await_true(page, "view.model.frame > 3")
    page.get_by_role("button", name="Pause").click()


def test_a_node_has_the_colour_of_its_value_and_none_before_it_is_scored(page: Page, address: str) -> None:
    open_page(page, address, "/trees/4")
    values = ask(page, "view.model.nodes.map((node) => [node.search_value, view.model.valueOf(node, 'value')])")
    scored = [value for stored, value in values if value is not None]
    assert [stored for stored, value in values if value is not None] == scored
    assert len(set(scored)) > 5
    assert all(stored is None for stored, value in values if value is None)
    slider = page.get_by_label("Responses that the search has read")
    slider.fill("1")
    unscored = "view.model.visible.filter((node) => node.depth === 1 && view.model.valueOf(node, 'value') === null)"
    assert ask(page, f"{unscored}.length") > 1, "the first steps are written before they are scored"
    assert ask(page, f"{unscored}.every((node) => view.describe(node).includes('not scored'))")
    slider.fill("3")
    assert ask(page, "view.model.nodes.some((node) => view.model.valueOf(node, 'value') > 0)")


def test_keys_alone_reach_every_step(page: Page, address: str) -> None:
    open_page(page, address, "/trees/4")
    page.locator("canvas[tabindex]").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    selected = ask(page, "[view.look.selected.depth, view.look.selected.step.trim()]")
    assert selected[0] == 2
    expect(page.locator(".current")).to_contain_text(selected[1])
    page.keyboard.press("Enter")
    expect(page.locator(".detail h3")).to_be_focused()
    zoom = ask(page, "view.drawing.zoom")
    page.locator("canvas[tabindex]").focus()
    page.keyboard.press("+")
    assert ask(page, "view.drawing.zoom") > zoom
    page.keyboard.press("Escape")
    expect(page.locator(".detail")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("answer is 7")
    expect(page.locator(".found")).to_contain_text("found")
    page.keyboard.press("Enter")
    expect(page.locator(".current")).to_contain_text("answer is 7")
    assert ask(page, "view.look.hits.size") == ask(
        page, "view.model.nodes.filter((node) => node.step.includes('answer is 7')).length"
    )


def test_the_outline_is_folded_walked_through_and_opened_with_keys_alone(page: Page, address: str) -> None:
    open_page(page, address, "/trees/4")
    outline = page.get_by_role("tree")
    rows = outline.get_by_role("treeitem")
    visible = rows.count()
    steps = ask(page, "view.model.nodes.map((node) => node.step.trim()).filter(Boolean)")
    shown = outline.locator(".step").all_inner_texts()
    assert sorted(shown[1:]) == sorted(steps), "every step is there, whole"
    outline.focus()
    page.keyboard.press("End")
    expect(rows.last).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    first = ask(page, "view.look.selected.node_id")
    expect(outline).to_have_attribute("aria-activedescendant", f"outline-4-{first}")
    page.keyboard.press("ArrowLeft")
    expect(rows).not_to_have_count(visible)
    page.keyboard.press("ArrowRight")
    expect(rows).to_have_count(visible)
    page.keyboard.press("ArrowRight")
    assert ask(page, "view.look.selected.parent_id") == first
    page.keyboard.press("Enter")
    expect(page.locator(".detail h3")).to_be_focused()
    page.locator(".detail").get_by_role("button", name="Close").click()
    expect(outline).to_be_focused()


def test_ends_are_listed_and_a_step_has_an_address(page: Page, address: str) -> None:
    open_page(page, address, "/trees/4")
    ends = page.locator(".ends")
    ends.locator("summary").click()
    verified = ask(page, "view.model.nodes.filter((node) => node.verdict).map((node) => node.verdict)")
    expect(ends.locator("li")).to_have_count(len(verified))
    expect(ends.locator("summary")).to_contain_text(f"{verified.count('right')} right")
    expect(ends.locator("li .verdict").first).to_contain_text("right")
    ends.locator("li button").first.click()
    chosen = ask(page, "view.look.selected.node_id")
    page.wait_for_url(f"**/trees/4#node-{chosen}")
    page.reload()
    expect(page.locator(".detail h3")).to_be_visible()
    assert ask(page, "view.look.selected.node_id") == chosen
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the solution").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == ask(page, "view.model.steps(view.look.selected).join('')")
    page.get_by_role("link", name="Tree 5").click()
    expect(page.locator("h1")).to_have_text("Tree 5")


def test_text_from_strangers_stays_text_and_latex_is_set(page: Page, address: str) -> None:
    for path in ("/", "/runs/1", "/runs/1/trees", "/trees/1", "/compare?first=1&second=4"):
        open_page(page, address, path)
        assert "taken" not in page.title()
        assert page.locator("main script, main img").count() == 0
    expect(page.locator(".problem")).to_have_text(HOSTILE)
    open_page(page, address, "/trees/2")
    assert page.locator(".problem .katex").count() == 3
    expect(page.locator(".problem")).to_contain_text('<i style="color:red">')
    assert page.locator(".problem i").count() == 0
    expect(page.locator(".problem")).to_contain_text("It costs $5 or $6.")
    await_true(page, "[...document.fonts].some((face) => face.family.includes('KaTeX') && face.status === 'loaded')")


def test_a_tree_of_a_thousand_nodes_stays_fluid(page: Page, address: str) -> None:
    open_page(page, address, "/trees/7")
    assert ask(page, "view.model.nodes.length") > 1000
    assert ask(page, "view.model.visible.length") < 200, "a large tree is folded at first"
    page.get_by_role("button", name="Unfold").click()
    assert ask(page, "view.model.visible.length") == ask(page, "view.model.nodes.length")
    canvas = page.locator("canvas[tabindex]")
    canvas.hover()
    times = []
    for _ in range(20):
        page.mouse.wheel(0, -40)
        page.wait_for_timeout(20)
        times.append(ask(page, "view.drawMilliseconds"))
    milliseconds = sorted(times)[len(times) // 2]
    print(f"a frame of {ask(page, 'view.model.nodes.length')} nodes takes {milliseconds:.1f} ms")
    assert milliseconds < FRAME_MILLISECONDS
    before = ask(page, "view.drawing.top")
    page.locator("canvas.map").click(position={"x": 20, "y": 100})
    assert ask(page, "view.drawing.top") != before, "the map leads elsewhere"
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    picture = ElementTree.fromstring(download.value.path().read_text())
    assert len(picture) > ask(page, "view.model.visible.length"), "an element or more for each node"
    page.get_by_label("Search steps").fill("move 42")
    assert 0 < ask(page, "view.look.hits.size") < 1000


PAGES = {
    "runs": "/",
    "runs side by side": "/runs/compare?run=1&run=2",
    "run": "/runs/1",
    "problems": "/runs/1/problems",
    "trees": "/runs/1/trees",
    "tree": "/trees/5",
    "large": "/trees/7",
    "compare": "/compare?first=2&second=5",
    "compare apart": "/compare?first=2&second=7",
    "failures": "/failures",
}


# Contrast depends on the scheme and room on the width: each is looked at once, and all pairs of the
# two are where pictures are asked for.
LOOKS = [("light", 1400), ("dark", 420)]
if "RESTMCTS_SCREENSHOTS" in os.environ:
    LOOKS += [("dark", 1400), ("light", 420)]


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_no_page_has_a_serious_fault_of_accessibility(browser: Browser, address: str, scheme: Any, width: int) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    page = context.new_page()
    found: list[str] = []
    for name, path in PAGES.items():
        open_page(page, address, path)
        if page.locator(".viewer").count():
            page.get_by_role("button", name="Chosen trace").first.click()
            expect(page.locator(".detail summary, .detail .requests p").first).to_be_visible()
        elif name == "run":
            expect(page.locator("#quality figure")).to_be_visible()
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name} is {overflow} px wider than the window"
        found += [f"{name}: {fault}" for fault in serious(Axe().run(page).response["violations"])]
        take_picture(page, f"{name}-{scheme}-{width}")
    context.close()
    assert found == []


@pytest.mark.parametrize("figure", ["27.0 % ± 2.0", "0.0 % [0.0, 6.0]"])
def test_the_list_shows_names_and_accuracies_whole_at_420_pixels(page: Page, address: str, figure: str) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    open_page(page, address, "/")
    table = page.locator("#runs table")
    table.evaluate(
        """(table, figure) => {
            table.querySelector("td.name a").textContent = "a-long-name-of-a-run-on-word-problems";
            for (const row of table.tBodies[0].rows) row.cells[2].firstChild.data = row.cells[3].firstChild.data = figure;
        }""",
        figure,
    )
    for place in (1, 2, 3):
        cell = table.locator("tbody tr").first.locator("td").nth(place)
        box, frame = cell.bounding_box(), page.locator("#runs .scroll").bounding_box()
        assert box is not None and frame is not None
        assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    assert page.locator("#runs").evaluate("runs => runs.querySelector('td.name').offsetHeight") < 200


def serious(violations: Sequence[Any]) -> list[str]:
    return [
        f"{one['id']}: {one['help']} ({one['nodes'][0]['html'][:160]})"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


def take_picture(page: Page, name: str) -> None:
    folder = os.environ.get("RESTMCTS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
