"""Every route answers parameters that it cannot use with 400 and what to give instead."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from restmcts.adapters.sql.database import Database
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source

BAD = [
    ("/?page=-1", "page is '-1'; give at least 0"),
    ("/?page=10001", "page is '10001'; give at most 10,000"),
    ("/?page=", "page is ''; give a whole number"),
    ("/?page=" + "1" * 5000, "page is '" + "1" * 59 + "…'; give a whole number"),
    ("/?archived=perhaps", "archived is 'perhaps'; give true or false"),
    ("/?sort=color", "sort is 'color'; give one of name, -name, state, "),
    ("/?state=asleep", "state is 'asleep'; give one of running, waiting, blocked, "),
    ("/?text=" + "a" * 201, "text has 201 characters; give at most 200"),
    ("/?pag=1", "there is no parameter 'pag' here; give one of text, state, archived, sort, page"),
    ("/?page=0&page=1", "page is given 2 times; give it once"),
    ("/live?size=3", "there is no parameter 'size' here; give one of text, "),
    ("/runs/1?page=abc", "there is no parameter 'page' here; give one of x"),
    ("/runs/1/quality?x=tokens", "there is no parameter 'x' here; this page takes none"),
    ("/runs/1/trees?page=abc", "there is no parameter 'page' here; give one of phase, state, solved, question, after"),
    ("/runs/1/trees?after=-1", "after is '-1'; give at least 0"),
    ("/runs/1/problems?page=0&after=3", "there is no parameter 'after' here; give one of of, outcome, question, page"),
    ("/runs/compare?run=1&run=2&first=1", "there is no parameter 'first' here; give one of run, x"),
    ("/trees/1?after=1", "there is no parameter 'after' here"),
    ("/trees/1/data?%3Cb%3E=1", "there is no parameter '<b>' here"),
    ("/compare?first=1&second=2&third=3", "there is no parameter 'third' here; give one of first, second"),
    ("/compare?first=1&second=1", "first and second are both 1; give two trees"),
    ("/failures?page=1", "there is no parameter 'page' here; give one of done"),
    ("/healthz?deep=1", "there is no parameter 'deep' here"),
    ("/live?page=x", "page is 'x'; give a whole number"),
    ("/runs/compare?" + "&".join(["run=1"] * 9), "run is given 9 times; give at most 8"),
    ("/runs/compare?run=1&run=one", "run is 'one'; give a whole number"),
    ("/runs/compare?run=1&run=1&x=hours", "x is 'hours'; give 'iteration' or 'tokens'"),
    ("/runs/first", "run_id is 'first'; give a whole number"),
    ("/runs/1?x=hours", "x is 'hours'; give 'iteration' or 'tokens'"),
    ("/runs/1/live?x=hours", "x is 'hours'; give 'iteration' or 'tokens'"),
    ("/runs/1.5/quality", "run_id is '1.5'; give a whole number"),
    ("/runs/1/trees?solved=maybe", "solved is 'maybe'; give one of yes, no"),
    ("/runs/1/trees?phase=nope", "phase is 'nope'; give one of collect-1, collect-2"),
    ("/runs/1/trees?state=nope", "state is 'nope'; give one of waiting, "),
    ("/runs/1/trees?after=last", "after is 'last'; give a whole number"),
    ("/runs/1/trees?question=" + "a" * 501, "question has 501 characters; give at most 500"),
    ("/runs/1/problems?outcome=drawn", "outcome is 'drawn'; give one of won, lost, "),
    ("/runs/1/problems?of=nothing", "this run has no problems 'nothing'; it has "),
    ("/runs/1/problems?page=1000001", "page is '1000001'; give at most 1,000,000"),
    ("/runs/1/data/policy-1?page=-1", "page is '-1'; give at least 0"),
    ("/trees/%3Cscript%3E", "tree_id is '<script>'; give a whole number"),
    ("/trees/one/data", "tree_id is 'one'; give a whole number"),
    ("/trees/one/frames", "tree_id is 'one'; give a whole number"),
    ("/trees/1/requests", "ids is missing"),
    ("/trees/1/requests?" + "&".join(["ids=1"] * 21), "ids is given 21 times; give at most 20"),
    ("/compare?first=1", "second is missing"),
    ("/compare?first=1&second=two", "second is 'two'; give a whole number"),
    ("/failures?done=dinner", "done is 'dinner'; give one of message, tree"),
    ("POST /runs/1/archive?undo=perhaps", "undo is 'perhaps'; give true or false"),
    ("POST /runs/1/archive token=" + "t" * 501, "token has 501 characters; give at most 500"),
    ("POST /trees/1/annotations", "node is missing"),
    ("POST /trees/1/annotations node=root", "node is 'root'; give a whole number"),
    ("POST /trees/1/annotations/first/remove", "annotation_id is 'first'; give a whole number"),
    ("POST /dead-letters/last/retry", "letter_id is 'last'; give a whole number"),
    ("POST /trees/1/retry token=" + "t" * 501, "token has 501 characters; give at most 500"),
]


@pytest.fixture
def client(folder: Path, tmp_path: Path, served: Callable[[Source], Any]) -> Iterator[Any]:
    shutil.copyfile(folder / "run.db", tmp_path / "run.db")
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    yield served(Source(database, "a test", writable=database, token="a token"))
    database.close()


BEYOND = [
    ("/?page=1", "the list has no page 1: it has 1 run"),
    ("/runs/1/problems?page=1", "the table has no page 1: it has 4 problems"),
]


def asked(line: str) -> tuple[str, dict[str, str] | None]:
    """Return the path of a case, and the form that it posts."""
    if not line.startswith("POST "):
        return line, None
    _, path, *fields = line.split(" ")
    return path, dict(field.split("=") for field in fields)


def test_what_a_route_cannot_use_is_a_bad_request_that_names_what_to_give(client: Any) -> None:
    wrong = {}
    for line, reason in BAD:
        path, form = asked(line)
        status, text, _ = client.get(path, form, Accept="application/json")
        if status != 400 or reason not in json.loads(text)["reason"]:
            wrong[line] = (status, text)
    assert wrong == {}


def test_a_page_beyond_the_last_is_not_found(client: Any) -> None:
    for path, reason in BEYOND:
        status, text, _ = client.get(path, Accept="application/json")
        assert (status, json.loads(text)["reason"]) == (404, reason)


def test_a_page_escapes_what_was_given_and_does_not_show_a_token(client: Any) -> None:
    _, page, _ = client.get("/trees/%3Cscript%3E")
    assert "Bad request" in page and "&lt;script&gt;" in page and "<script>'" not in page
    assert "t" * 60 not in client.get("/trees/1/retry", {"token": "t" * 501})[1]


def test_a_file_in_place_of_a_text_is_a_bad_request(client: Any) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="token"; filename="t"\r\n\r\nx\r\n--b--\r\n'
    request = urllib.request.Request(
        client.address + "/trees/1/retry", body, {"Content-Type": "multipart/form-data; boundary=b"}
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=20)
    assert error.value.code == 400
    assert "token cannot be read; give text" in error.value.read().decode()


def routes_of(folder: Path) -> list[APIRoute]:
    database = Database(f"sqlite:///{folder / 'run.db'}", read_only=True)
    app = create_app(Source(database, "a test"))
    database.close()
    included = [one.original_router.routes if hasattr(one, "original_router") else [one] for one in app.routes]
    routes = [route for some in included for route in some if isinstance(route, APIRoute)]
    assert len(routes) >= 18
    return routes


def test_every_route_says_that_what_it_is_about_does_not_exist(client: Any, folder: Path) -> None:
    """All of what stays open or has no page of its own, too."""
    form = {"token": "a token", "node": "1", "subject": "step", "verdict": "right", "who": "Ann"}
    wrong, num_asked = {}, 0
    for route in routes_of(folder):
        names = route.dependant.path_params
        if not any(one.name.endswith("_id") for one in names):
            continue
        num_asked += 1
        path = route.path.format(**{one.name: 999 if one.name.endswith("_id") else "policy-1" for one in names})
        required = [f"{one.alias}=1" for one in route.dependant.query_params if one.field_info.is_required()]
        fields = {one.alias: form[one.alias] for one in route.dependant.body_params if one.alias in form}
        posts = "POST" in route.methods
        status, text, _ = client.get(
            f"{path}?{'&'.join(required)}", fields if posts else None, Accept="application/json"
        )
        if status != 404 or "999" not in json.loads(text)["reason"]:
            wrong[path] = (status, text)
    assert wrong == {} and num_asked >= 12


def test_every_route_with_parameters_is_among_the_cases(folder: Path) -> None:
    routes = routes_of(folder)
    paths = [(asked(line)[0].partition("?")[0], asked(line)[1] is not None) for line, _ in BAD]
    missing = [
        route.path
        for route in routes
        if (route.dependant.query_params or route.dependant.path_params or route.dependant.body_params)
        and not any(route.path_regex.match(path) and ("POST" in route.methods) == posts for path, posts in paths)
    ]
    assert missing == []
