"""What people say of steps and answers in the viewer: stored with its source, shown, counted and
removed; only with the token, and only from the dashboard's own pages.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from restmcts.settings import DashboardSettings
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source

TOKEN = "a long token"
JSON = {"Accept": "application/json"}


@pytest.fixture
def client(folder: Path, tmp_path: Path, served: Callable[[Source], Any]) -> Iterator[Any]:
    """A dashboard that may be changed, on a work folder of its own."""
    path = tmp_path / "run.db"
    shutil.copy(folder / "run.db", path)
    source = folder_source(path, DashboardSettings(dashboard_token=SecretStr(TOKEN)))
    yield served(source)
    assert source.writable is not None
    source.writable.close()
    source.database.close()


def nodes_of(client: Any, tree_id: int) -> list[dict[str, Any]]:
    tree = client.document(f"/trees/{tree_id}/data")
    return [dict(zip(tree["fields"], row, strict=True)) for row in tree["nodes"]]


def annotate(client: Any, tree_id: int = 1, **given: Any) -> tuple[int, Any]:
    form = {"node": "1", "subject": "step", "verdict": "right", "who": "Ada", "token": TOKEN} | given
    status, text, _ = client.get(
        f"/trees/{tree_id}/annotations", {name: str(value) for name, value in form.items()}, **JSON
    )
    return status, json.loads(text)


def test_a_step_is_annotated_changed_counted_and_removed(client: Any) -> None:
    assert "Annotations:" not in client.text("/runs/1")
    status, found = annotate(client, verdict="wrong", note=" <b>31 + 3</b> ")
    assert status == 200
    assert [found[0][name] for name in ("subject", "verdict", "note", "who", "source")] == [
        "step",
        "wrong",
        "<b>31 + 3</b>",
        "Ada",
        "viewer",
    ]
    annotate(client, verdict="unsure")
    assert annotate(client, who="Grace")[0] == 200
    said = client.document("/trees/1/data")["annotations"]
    assert [(one["who"], one["verdict"]) for one in said] == [("Ada", "unsure"), ("Grace", "right")]
    page = client.text("/runs/1")
    assert "Annotations:</strong> 2 steps and 0 answers in 1 tree, by 2 people; <a" in page
    listed = page[page.index('id="annotations-title"') : page.index("<h2>Workers")]
    assert "2 annotations in 1 tree" in listed
    assert listed.index("</span> right") < listed.index("</span> unsure"), "the newest first"
    assert "&lt;script&gt;" in listed and '<td class="text">Grace</td>' in listed
    assert listed.count('<a href="/trees/1#node-1">1: ') == 2
    for one in said:
        path = f"/trees/1/annotations/{one['id']}/remove"
        assert client.get(path, {"token": "guess"})[0] == 403
        assert client.get(path, {"token": TOKEN})[0] == 200
    assert client.document("/trees/1/data")["annotations"] == []
    status, text, _ = client.get(f"/trees/1/annotations/{said[0]['id']}/remove", {"token": TOKEN}, **JSON)
    assert (status, "somebody may have removed it" in text) == (404, True)


def test_people_and_the_verifier_are_compared_on_answers(client: Any) -> None:
    verdicts = {
        (tree_id, node["node_id"]): node["verdict"]
        for tree_id in range(1, 9)
        for node in nodes_of(client, tree_id)
        if node["verdict"] in ("right", "wrong")
    }
    places = {verdict: place for place, verdict in verdicts.items()}
    for tree_id, node in places.values():
        annotate(client, tree_id, node=node, subject="answer", verdict="right")
    assert len(places) == 2
    assert "1 of 2 answers have the verdict that people give them" in client.text("/runs/1")
    for tree_id, _ in places.values():
        for one in client.document(f"/trees/{tree_id}/data")["annotations"]:
            client.get(f"/trees/{tree_id}/annotations/{one['id']}/remove", {"token": TOKEN})


def test_what_cannot_be_annotated_is_refused_with_the_reason(client: Any) -> None:
    inner = next(node["node_id"] for node in nodes_of(client, 1)[1:] if not node["final"] and not node["verdict"])
    for given, expected, reason in [
        ({"node": 0}, 404, "tree 1 has no step 0"),
        ({"node": 99999}, 404, "tree 1 has no step 99999"),
        ({"node": inner, "subject": "answer"}, 400, "it has no answer"),
        ({"verdict": "fine"}, 400, "give right, wrong, unsure"),
        ({"subject": "tree"}, 400, "annotations are of a step or an answer"),
        ({"who": " "}, 400, "the name of a person is empty"),
        ({"who": "\u200b\u2060"}, 400, "a character that is not printed: '\\u200b"),
        ({"who": "a\0b"}, 400, "a character that is not printed: 'a"),
        ({"who": "A" * 101}, 400, "101 characters"),
        ({"note": "n" * 4001}, 400, "4,001 characters"),
    ]:
        status, found = annotate(client, **given)
        assert (status, reason in found["reason"]) == (expected, True), found
    assert annotate(client, who="Rene\u0301e \u3000 Ada")[1][0]["who"] == "Ren\u00e9e Ada"
    annotations = client.document("/trees/1/data")["annotations"]
    assert len(annotations) == 1
    client.get(f"/trees/1/annotations/{annotations[0]['id']}/remove", {"token": TOKEN})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/trees/1/annotations", "/runs/1/archive"])
def test_another_sites_page_changes_nothing_even_with_the_token(
    client: Any, path: str, headers: dict[str, str], status: int
) -> None:
    form = {"node": "1", "subject": "step", "verdict": "right", "who": "Ada", "token": TOKEN}
    assert client.get(path, form, **headers)[0] == status
    own = client.get(path, form, Origin=client.address)
    assert own[0] == 200
    client.get("/runs/1/archive?undo=true", {"token": TOKEN})


def test_without_a_token_the_page_says_how_to_set_one(
    client: Any, folder: Path, served: Callable[[Source], Any]
) -> None:
    reading = served(folder_source(folder / "run.db"))
    assert "data-may-change" not in reading.text("/trees/1")
    assert "data-may-change" in client.text("/trees/1")
    status, text, _ = reading.get(
        "/trees/1/annotations", {"node": "1", "subject": "step", "verdict": "right", "who": "A"}
    )
    assert (status, "without RESTMCTS_DASHBOARD_TOKEN" in text) == (403, True)
    assert "RESTMCTS_DASHBOARD_TOKEN" in reading.text("/static/tree_annotations.js")


def test_of_many_annotations_the_newest_are_listed_and_a_command_names_all(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restmcts_dashboard.runs.annotation_reads.MAX_LISTED", 2)
    for number, note in enumerate(("first <i>", "second <i>", "third <i>")):
        annotate(client, who=f"person {number}", note=note)
    page = client.text("/runs/1")
    assert "third &lt;i&gt;" in page and "second &lt;i&gt;" in page and "first &lt;i&gt;" not in page
    assert "The newest 2 are listed; <code>restmcts annotations list " in page
    for one in client.document("/trees/1/data")["annotations"]:
        client.get(f"/trees/1/annotations/{one['id']}/remove", {"token": TOKEN})
    assert "What people say" not in client.text("/runs/1")
