"""The page of a tree of 5,000 nodes in Chromium: how long until its first picture, and how many
frames a second while the whole tree, unfolded, is panned; against 1.5 s and 30 frames.

Run: python tests/bench/bench_tree_view.py [--iterations 1700] [--latex] [--pictures FOLDER]
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from restmcts.adapters.sql.database import Database
from restmcts.adapters.workers.service import ServiceSettings
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.services import HandledServices
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_dashboard.app import create_app
from restmcts_dashboard.serving import folder_source
from restmcts_local.services import start
from sqlalchemy import text
from uvicorn import Config, Server

FIRST_PICTURE_SECONDS = 1.5
FRAMES_PER_SECOND = 30.0
LOADS = 5
PANNING_SECONDS = 4.0
NEAR = """(() => {
  const view = document.querySelector(".viewer").view;
  view.select(view.model.visible[Math.floor(view.model.visible.length / 2)]);
  const [x, y] = view.drawing.at(view.look.selected);
  view.drawing.zoomAt(x, y, 0.8 / view.drawing.zoom);
  view.keepInView();
})()"""
FRAMES = """new Promise((resolve) => {
  const times = [];
  const view = document.querySelector(".viewer").view;
  const begin = performance.now();
  const step = (now) => {
    times.push(now);
    view.drawing.left += 6 * Math.sin(now / 300);
    view.drawing.top += 9 * Math.cos(now / 400);
    view.redraw();
    if (now - begin < %d) requestAnimationFrame(step); else resolve(times);
  };
  requestAnimationFrame(step);
})"""


class LatexModels(RandomModels):
    """Every step has two formulas of its own."""

    def _text(self, number: int) -> str:
        return f"With $\\frac{{{number}}}{{x^2}} > 0$ we get $\\sqrt{{{number}+x}}$, as move {number} says.\n"


def search(folder: Path, iterations: int, latex: bool) -> int:
    """Search one large tree from a seed; return how many nodes it has."""
    settings = MctsStarSettings(
        mode="collect", branch=6, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=9
    )
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", settings, Budget(iterations=iterations))
    models = (LatexModels if latex else RandomModels)(num_words=90, answer_rate=0.1)
    services = HandledServices(
        folder, start, lambda _: models, ServiceSettings(folder / "work", max_trees_in_flight=100)
    )
    with services.database.transaction() as transaction:
        checkpoints = {
            name: NewCheckpoint(kind, f"file://{name}", name * 8)
            for name, kind in (("base", "policy"), ("value-0", "value"))
        }
        problems = {"train": [Problem("a large tree", RIGHT_ANSWER)]}
        create_run(transaction, NewRun("large", "rest-mcts", 1, [phase], problems=problems, checkpoints=checkpoints))
    services.resume()
    services.close()
    database = Database(f"sqlite:///{folder / 'run.db'}")
    with database.transaction() as transaction:
        num_nodes: int = transaction.execute(text("SELECT count(*) FROM nodes")).scalar_one()
    database.close()
    return num_nodes


def first_picture(page: Page, address: str) -> float:
    """Return the seconds from asking for the page to its first picture."""
    begin = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".viewer[data-ready]", timeout=60_000)
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    return time.perf_counter() - begin


def frames_per_second(page: Page) -> float:
    """Return the frames a second while the drawing is moved in each of them."""
    times = page.evaluate(FRAMES % int(1000 * PANNING_SECONDS))
    return float(1000 * (len(times) - 1) / (times[-1] - times[0]))


def measure(page: Page, address: str, num_nodes: int, pictures: Path | None) -> None:
    seconds = [first_picture(page, f"{address}/trees/1") for _ in range(LOADS)]
    print(f"{num_nodes:,} nodes")
    print(f"first picture: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s (limit 1.5 s)")
    print(f"panning as first shown: {frames_per_second(page):.0f} frames a second")
    page.get_by_role("button", name="Unfold").click()
    page.wait_for_timeout(1000)
    print(f"panning, all unfolded:  {frames_per_second(page):.0f} frames a second (at least {FRAMES_PER_SECOND:.0f})")
    print(f"drawing, all unfolded:  {page.evaluate('document.querySelector(`.viewer`).view.drawMilliseconds'):.1f} ms")
    page.evaluate(NEAR)
    print(f"panning, near:          {frames_per_second(page):.0f} frames a second")
    if pictures is not None:
        page.screenshot(path=pictures / "large-tree.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1700)
    parser.add_argument("--latex", action="store_true", help="steps with formulas")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        num_nodes = search(Path(folder), options.iterations, options.latex)
        server = Server(
            Config(create_app(folder_source(Path(folder) / "run.db")), port=0, log_level="warning", lifespan="off")
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox", "--disable-gpu"],
            )
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            measure(page, address, num_nodes, options.pictures)
            browser.close()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
