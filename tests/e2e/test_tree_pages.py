"""Trees in a real Chromium, of searches with a value model and without one: what is not scored, how
nodes are counted, two trees beside one another; and pages that say what is wrong.
"""

import math
import random
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from restmcts.adapters.sql.database import Database
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.reporting.figures import decimal
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source

from tests.e2e.dashboard_pages import ask, await_true, open_page, place_of, served

SCORED = MctsStarSettings(
    mode="collect", branch=3, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=6
)
UNSCORED = BestFirstSettings(score=False)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Iterator[str]:
    """A dashboard of run 1: trees 1 and 2 and, of the same problems, 3 and 4; and run 2: tree 5,
    searched without a value model.
    """
    path = tmp_path_factory.mktemp("trees")
    problems = [Problem(question, RIGHT_ANSWER) for question in ("the first", "the second")]
    phases = [
        SearchPhase(f"collect-{n}", n, "collect", "train", "base", "value-0", SCORED, Budget(iterations=6 * n))
        for n in (1, 2)
    ]
    search_folder(path, "scored", problems, phases, RandomModels(seed=1))
    alone = SearchPhase("collect-1", 1, "collect", "train", "base", None, UNSCORED, Budget(iterations=8))
    search_folder(path, "not scored", problems[:1], [alone], RandomModels(seed=2))
    with served(folder_source(path / "run.db")) as shown:
        yield shown


def test_a_tree_without_a_value_model_looks_not_scored_everywhere(page: Page, address: str) -> None:
    open_page(page, address, "/trees/5")
    assert ask(page, "view.model.nodes.slice(1).every((node) => node.visits > 0 && node.search_value === null)")
    assert ask(page, "view.model.nodes.every((node) => view.model.valueOf(node, 'value') === null)")
    colour = page.get_by_label("Colour")
    expect(colour).to_have_value("quality")
    inferred = ask(page, "view.model.nodes.map((node) => node.quality_value).filter((value) => value !== null)")
    assert inferred and ask(page, "view.look.colour") == "quality", "coloured by what there is"
    colour.select_option("value")
    assert set(page.locator(".outline .chip").all_inner_texts()) == {"–"}
    child = ask(page, "view.model.root.children[0].node_id")
    page.locator("canvas[tabindex]").hover(position=place_of(page, child))
    tip = page.locator(".tip")
    expect(tip).to_contain_text("not scored")
    expect(tip).not_to_contain_text("V ")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    assert "0.00" not in download.value.path().read_text()


@pytest.mark.parametrize("tree", [1, 4, 5])
def test_nodes_are_counted_alike_in_facts_replay_and_list(page: Page, address: str, tree: int) -> None:
    open_page(page, address, f"/trees/{tree}")
    said = page.locator(".facts, dl.inline").first.inner_text()
    count = re.search(r"Nodes\s+([\d,]+)", said)
    assert count is not None, said
    number = int(count.group(1).replace(",", ""))
    assert number == ask(page, "view.model.nodes.length") - 1
    expect(page.locator(".replay output")).to_contain_text(f"the whole tree: {number} nodes, ")
    run = page.locator("dl.inline a").first.get_attribute("href")
    open_page(page, address, f"{run}/trees")
    row = page.locator("tbody tr", has=page.locator(f'a[href="/trees/{tree}"]'))
    expect(row.locator("td").nth(6)).to_have_text(count.group(1))


def test_two_trees_of_one_problem_stand_side_by_side(page: Page, address: str) -> None:
    open_page(page, address, "/trees/1")
    page.get_by_label("Compare with").select_option("3")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".viewer[data-compared]")).to_have_count(2)
    only, both = ask(page, "[view.look.only.size, view.model.nodes.length - 1 - view.look.only.size]")
    assert only > 0
    assert both > 0, "both begin alike: the same models were asked the same"
    expect(page.locator(".current").first).to_contain_text(f"{only} of ")
    apart = """(() => {
        const [first, second] = [...document.querySelectorAll('.viewer')].map((box) => box.view);
        const shared = first.model.visible.map((node) => [node, first.pair.counterpart(first, node)]).filter((both) => both[1]);
        return shared.length < 2 || shared.some(([one, other]) => one.x !== other.x || one.y !== other.y);
    })()"""
    assert ask(page, apart) is False, "what both have is at the same place in both"
    for canvas in page.locator("canvas[tabindex]").all():
        zoom = ask(page, "view.drawing.zoom")
        canvas.focus()
        page.keyboard.press("+")
        zooms = "[...document.querySelectorAll('.viewer')].map((box) => box.view.drawing.zoom)"
        await_true(page, f"{zooms}.every((one) => one > {zoom} && one === view.drawing.zoom)")


def test_two_trees_of_different_problems_are_not_aligned(page: Page, address: str) -> None:
    open_page(page, address, "/compare?first=1&second=2")
    expect(page.locator("h1")).to_have_text("Two trees of different problems")
    expect(page.locator(".problem")).to_have_count(2)
    assert page.locator(".viewer[data-compared]").count() == 0
    assert ask(page, "view.look.only.size") == 0


def test_an_error_page_is_no_wider_than_a_narrow_window(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 420, "height": 900})
    away = Database(f"postgresql+psycopg://me@127.0.0.1:1/{'long' * 40}", read_only=True)
    with served(Source(away, "work-" * 20)) as address:
        for path, status in (("/", 503), ("/runs/" + "9" * 60, 400), ("/?text=" + "w" * 300, 400), ("/nothing", 404)):
            answer = page.goto(address + path)
            assert answer is not None and answer.status == status
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{path} is {overflow} px wider than the window"
    page.close()


def test_steps_are_wrapped_at_blanks_and_only_where_they_need_it(page: Page, address: str) -> None:
    open_page(page, address, "/trees/1")

    def lines(text: str, room: int, most: int, reserved: int) -> list[str]:
        module = "import('/static/tree_drawing.js')"
        call = f"drawing.wrapped(text, (part) => part.length, {room}, {most}, {reserved})"
        found: list[str] = page.evaluate(f"(text) => {module}.then((drawing) => {call})", text)
        return found

    assert lines("the question", 9, 3, 0) == ["the", "question"]
    assert lines("29 - 5 = 24", 16, 3, 5) == ["29 - 5 = 24"]
    assert lines("29 - 5 = 24", 15, 3, 5) == ["29 - 5 =", "24"]
    assert lines("abcdefghijkl", 5, 3, 0) == ["abcde", "fghij", "kl"]
    assert lines("one two three four", 9, 2, 0) == ["one two", "three fo…"]
    assert lines("text", 5, 2, 3) == []


def test_values_are_rounded_as_reports_and_the_terminal_round_them(page: Page, address: str) -> None:
    """Numbers that are exactly between two, near those, and any others."""
    page.goto(f"{address}/trees/1")
    draw = random.Random(0)
    between = [number / 8 for number in range(9)] + [number / 16 for number in range(17)]
    near = [math.nextafter(value, to) for value in between for to in (0.0, 1.0)]
    values = [*between, *near, 1.005, 0.615, 2.5, -0.125, -0.375, *(draw.random() for _ in range(500))]
    for places in (2, 3):
        call = "import('/static/tree_words.js').then((words) => values.map((one) => words.decimal(one, places)))"
        found = page.evaluate(f"([values, places]) => {call}", [values, places])
        assert found == [decimal(value, places) for value in values]


def test_escape_closes_an_open_step_wherever_the_keyboard_is(page: Page, address: str) -> None:
    open_page(page, address, "/trees/1")
    panel = page.locator(".detail")
    page.locator(".outline li").nth(1).click()
    expect(panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.locator(".outline").focus()
    page.keyboard.press("Enter")
    expect(panel.locator("h3")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(".outline")).to_be_focused()


def test_drawings_of_two_trees_begin_at_one_height(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 1400, "height": 900})
    for path in ("/compare?first=1&second=3", "/compare?first=2&second=5"):
        open_page(page, address, path)
        for _ in ("closed", "a step of the first is open"):
            first, second = (box["y"] for box in (one.bounding_box() for one in page.locator(".stage").all()) if box)
            assert first == second, path
            page.locator(".outline li").nth(1).click()
            expect(page.locator(".detail").first).to_be_visible()


@pytest.mark.parametrize("height", [900, 1300])
def test_outline_and_open_step_are_as_high_as_the_drawing(page: Page, address: str, height: int) -> None:
    page.set_viewport_size({"width": 1400, "height": height})
    open_page(page, address, "/trees/2")
    room = (
        "[...document.querySelectorAll('.looks, .stage')].map((one) => Math.round(one.getBoundingClientRect().height))"
    )
    looks, stage = page.evaluate(room)
    assert looks == stage, "no white below the drawing"
    page.locator(".outline li").nth(1).click()
    expect(page.locator(".detail")).to_be_visible()
    expect(page.locator(".requests details").first).to_be_attached()
    looks, stage = page.evaluate(room)
    assert looks == stage
