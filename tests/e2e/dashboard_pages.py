"""Serves a dashboard, opens its pages in a browser, and asks what a tree that is shown there
knows.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, expect
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from uvicorn import Config, Server

# The rows of an outline are made with the first picture of its tree, a frame after the tree is
# there.
SHOWN = """[...document.querySelectorAll(".viewer")].every(({ dataset, view }) =>
    dataset.ready && view.outline.rows.size === view.model.visible.length)"""
SECONDS = 20


@contextmanager
def served(source: Source) -> Iterator[str]:
    """Serve a dashboard on a free port, its address being that of the context; its databases are
    closed at the end.
    """
    server = Server(Config(create_app(source), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    for database in (source.database, source.writable):
        if database is not None:
            database.close()


def open_page(page: Page, address: str, path: str) -> None:
    """Open a page and wait until its scripts have put into it what they fetch."""
    page.goto(address + path)
    if page.locator(".viewer").count():
        _await(page, SHOWN)
    elif page.locator("main[data-live]").count():
        expect(page.locator("html[data-live=yes]")).to_be_attached()


def ask(page: Page, code: str) -> Any:
    """Return what JavaScript says of the first viewer of the page, `view`."""
    return page.evaluate(_of_view(code))


def await_true(page: Page, code: str) -> None:
    """Wait until JavaScript says yes of the first viewer of the page, `view`."""
    _await(page, _of_view(code))


def _of_view(code: str) -> str:
    return f"(() => {{ const view = document.querySelector('.viewer').view; return {code}; }})()"


def _await(page: Page, code: str) -> None:
    # `Page.wait_for_function` evaluates strings within the page, whose policy forbids it
    for _ in range(20 * SECONDS):
        if page.evaluate(code):
            return
        page.wait_for_timeout(50)
    raise TimeoutError(code)


def place_of(page: Page, node_id: int) -> dict[str, float]:
    """Return where the node is on the canvas of the first viewer."""
    x, y = ask(page, f"view.drawing.at(view.model.byId.get({node_id}))")
    return {"x": x, "y": y}
