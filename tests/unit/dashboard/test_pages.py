"""What the dashboard answers: numbers, escaping, headers, bounds on who may ask and change;
over a real server.
"""

import json
import re
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.state import blocks, promotions, runs, token_budget, truth_ledger
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.sql.state.trees import NODES, PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, TreeState
from restmcts.domain.runs.phases import PromotionPhase, SearchPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.truth.ledger import LedgerEntry
from restmcts.errors import StorageError
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun
from restmcts.reporting.figures import duration
from restmcts.usecases import steer
from restmcts_dashboard.runs.run_reads import read_run
from restmcts_dashboard.source import Source
from sqlalchemy import select, update

TOKEN = "a long token"


def test_pages_show_the_run_and_its_trees(client: Any) -> None:
    runs_page = client.text("/")
    assert 'href="/runs/1"' in runs_page
    assert "<td>8</td>" in runs_page
    page = client.text("/runs/1")
    assert 'href="/runs/1/trees?phase=collect-1"' in page
    assert "done" in page
    found = client.text("/runs/1/trees?phase=collect-2&question=PLAIN")
    assert found.count('<tr><td><a href="/trees/') == 1
    quality = client.text("/runs/1/quality")
    assert re.search(r"\d (±|\[)[^(]* \(\d+ right, \d+ wrong ends? of \d+ trees?\)", quality), quality
    assert "± is one standard error over trees" in quality
    assert re.search(r"\d % (±|\[)[^<]* of the 8 trees searched for training data; error over 4 problems", page), (
        "eight trees are of four problems"
    )
    assert client.get("/runs/77")[0] == 404
    assert [client.get(f"/trees/77{part}")[0] for part in ("", "/data", "/frames")] == [404] * 3
    assert client.get("/nothing")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/runs/9223372036854775808",
        "/runs/-9223372036854775809/live",
        "/runs/1/quality?x=%00",
        "/runs/1/trees?after=9223372036854775808",
        "/runs/1/trees?question=%00",
        "/runs/1/trees?phase=collect%00",
        "/trees/99999999999999999999",
        "/trees/99999999999999999999/data",
        "/trees/99999999999999999999/frames",
        "/trees/1/requests?ids=1&ids=9223372036854775808",
        "/compare?first=1&second=9223372036854775808",
        "/failures?done=%00",
    ],
)
def test_what_no_database_can_hold_is_a_bad_request_with_its_reason(client: Any, path: str) -> None:
    status, page, _ = client.get(path)
    assert status == 400
    assert "Bad request" in page
    assert ("a NUL character" if "%00" in path else "is not an id") in page


def test_the_greatest_id_and_a_long_number_to_search_for_are_no_bad_requests(client: Any) -> None:
    assert client.get("/runs/9223372036854775807")[0] == 404
    assert client.get("/runs/1/trees?question=99999999999999999999")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/runs/1", "/runs/1/trees", "/trees/1", "/compare?first=1&second=5", "/failures", "/nothing"]
)
def test_text_from_strangers_is_escaped_everywhere_and_scripts_come_from_here_alone(client: Any, path: str) -> None:
    _, page, headers = client.get(path)
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "<b>bold" not in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert " style=" not in page
    assert "//cdn" not in page


def test_losses_by_step_are_drawn_for_each_kind_of_model(failed: Database, served: Callable[[Source], Any]) -> None:
    phase = TrainValuePhase("value-2", 2, None, "base", TrainingSettings(), ("collect-2",))
    with failed.transaction() as transaction:
        runs.add_phases(transaction, 1, [phase])
        decided = update(PHASES).where(PHASES.c.name == phase.name)
        transaction.execute(decided.values(state=PhaseState.DONE, result={"losses": [[1, 2.5], [2, 1.25]]}))
    page = served(Source(Database(str(failed.engine.url), read_only=True), "a test")).text("/runs/1")
    assert "<title>value-2: 2.500</title>" in page and "<title>value-2: 1.250</title>" in page
    assert "Value model: training loss by step" in page
    assert "Policy: training loss by step" not in page
    failed.close()


def test_trees_of_different_problems_are_shown_apart_with_both_problems(client: Any) -> None:
    same, other = client.text("/compare?first=1&second=5"), client.text("/compare?first=2&second=4")
    assert "<h1>Two trees of one problem</h1>" in same and "data-aligned" in same and same.count("data-math") == 1
    assert "<h1>Two trees of different problems</h1>" in other and "data-aligned" not in other
    assert "their steps are not compared" in other and "same place in both" not in other
    shown = re.findall(r"data-math>([^<]*)<", other)
    assert [text[:8] for text in shown] == ["What is ", "plain"]


def test_a_tree_is_played_again_to_what_is_stored(client: Any) -> None:
    tree, frames = client.document("/trees/1/data"), client.document("/trees/1/frames")
    nodes = [dict(zip(tree["fields"], row, strict=True)) for row in tree["nodes"]]
    last: dict[int, list[Any]] = {}
    for frame in frames:
        last |= {change[0]: change for change in frame["changes"]}
    searched = [node for node in nodes if node["origin"] != "solution" and node["node_id"] > 0]
    assert len(searched) > 5
    for node in searched:
        assert last[node["node_id"]][1] == node["visits"]
        assert last[node["node_id"]][2] == pytest.approx(node["search_value"], abs=1e-3)
    asked = client.document(f"/trees/1/requests?ids={frames[0]['id']}")
    assert asked[0]["checkpoint"] == "base"
    assert asked[0]["request"]["steps"] == []
    assert asked[0]["answer"]["samples"]


def test_decisive_steps_are_named_by_their_nodes(client: Any) -> None:
    decisive = [(number, one) for number in range(1, 7) for one in client.document(f"/trees/{number}/data")["decisive"]]
    assert decisive
    for number, node_id in decisive:
        tree = client.document(f"/trees/{number}/data")
        nodes = {row[0]: dict(zip(tree["fields"], row, strict=True)) for row in tree["nodes"]}
        below = [one for one in nodes.values() if node_id in ancestors(nodes, one["node_id"]) and one["final"]]
        assert below and all(one["verdict"] == "wrong" for one in below)


def ancestors(nodes: dict[int, dict[str, Any]], node_id: int | None) -> list[int]:
    return [] if node_id is None else [node_id, *ancestors(nodes, nodes[node_id]["parent_id"])]


def test_siblings_are_trees_of_the_same_problem(client: Any) -> None:
    assert '<option value="5">tree 5' in client.text("/trees/1")
    assert "different problems" not in client.text("/compare?first=1&second=5")
    assert "different problems" in client.text("/compare?first=1&second=6")


def test_only_the_named_hosts_are_answered(client: Any) -> None:
    assert client.get("/", Host="evil.example")[0] == 400
    assert client.get("/", Host="localhost")[0] == 200


def test_the_stream_sends_every_part_at_once(client: Any) -> None:
    with urllib.request.urlopen(client.address + "/runs/1/live", timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.readline() == b"event: parts\n"
        parts = json.loads(stream.readline().removeprefix(b"data: "))
    assert set(parts) == {"summary", "truth", "phases", "charts", "workers", "lineage", "annotations"}
    assert "collect-1" in parts["phases"]


def test_a_read_only_database_takes_no_change_and_waits_for_no_writer(folder: Path) -> None:
    url = f"sqlite:///{folder / 'run.db'}"
    reader, writer = Database(url, read_only=True), Database(url)
    with pytest.raises(StorageError), reader.transaction() as transaction:
        transaction.execute(update(RUNS).values(name="changed"))
    with writer.transaction() as writing, reader.transaction() as transaction:
        writing.execute(update(RUNS).values(seed=RUNS.c.seed))
        assert transaction.execute(select(RUNS.c.name)).scalar() != "changed"
    reader.close()
    writer.close()


def test_what_failed_is_tried_again_only_with_the_token(failed: Database, served: Callable[[Source], Any]) -> None:
    emitted: list[Message] = []
    failed.publish = lambda messages, _: emitted.extend(messages)
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test", token=TOKEN, writable=failed))
    page = client.text("/failures")
    assert "gave up: &lt;script&gt;" in page
    assert "was &lt;b&gt;bad" in page
    assert TOKEN not in page
    for path in ("/trees/6/retry", "/dead-letters/1/retry"):
        assert client.get(path, {"token": "guess"})[0] == 403
        assert client.get(path, {})[0] == 403
    assert emitted == []
    assert "begins again" in client.get("/trees/6/retry", {"token": TOKEN})[1]
    assert emitted == [AdvanceRun(run_id=1)]
    assert "sent again" in client.get("/dead-letters/1/retry", {"token": TOKEN})[1]
    assert emitted[-1] == AdvanceRun(run_id=1)
    with failed.transaction() as transaction:
        fresh = transaction.execute(select(TREES).order_by(TREES.c.id.desc())).first()
        assert (fresh.state, fresh.version, fresh.problem_id) == (TreeState.WAITING, 0, 2)
        assert transaction.execute(select(DEAD_LETTERS)).all() == []
    assert client.get("/trees/1/retry", {"token": TOKEN})[0] == 400, "its phase has ended"
    for path in ("/trees/6/retry", "/dead-letters/1/retry", "/runs/77/archive"):
        assert client.get(path, {"token": TOKEN})[0] == 404
    failed.close()


def test_without_a_token_nothing_can_be_changed(failed: Database, served: Callable[[Source], Any]) -> None:
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test", writable=failed))
    assert "only reads" in client.text("/failures")
    assert "<form" not in client.text("/failures")
    assert client.get("/trees/6/retry", {"token": ""})[0] == 403
    failed.close()


def test_what_is_left_is_told_while_a_run_goes_on(failed: Database) -> None:
    with failed.transaction() as transaction:
        now = transaction.now()
        transaction.execute(update(RUNS).values(provenance=[], created_at=now - timedelta(seconds=90)))
        transaction.execute(update(PHASES).values(started_at=now - timedelta(seconds=80)))
        for tree_id in range(1, 7):
            ended = now - timedelta(seconds=70 - 10 * tree_id)
            transaction.execute(update(TREES).where(TREES.c.id == tree_id).values(ended_at=ended))
        transaction.execute(update(TREES).where(TREES.c.id > 6).values(state=TreeState.SEARCHING.value, ended_at=None))
        view = read_run(transaction, 1)
    assert view.forecast is not None
    assert view.forecast.num_trees == 2
    assert view.forecast.token_cap == 1000
    assert view.forecast.tokens == pytest.approx(2 * sum(p.tokens for p in view.phases) / 6, rel=0.6)
    assert view.forecast.seconds is not None and 5 < view.forecast.seconds < 80
    failed.close()


def test_a_token_budget_is_shown_with_what_is_left_of_it(failed: Database, served: Callable[[Source], Any]) -> None:
    with failed.transaction() as transaction:
        transaction.execute(update(TREES).where(TREES.c.id > 6).values(state=TreeState.SEARCHING.value, ended_at=None))
        spent = sum(phase.tokens for phase in read_run(transaction, 1).phases)
        steer.set_max_tokens(transaction, runs_name(transaction), spent + 1)
        view = read_run(transaction, 1)
    assert view.budget is not None
    assert (view.budget.limit, view.budget.spent, view.budget.left) == (spent + 1, spent, 1)
    assert view.budget.seconds_left is not None
    assert view.budget_ends_first, "two trees are still to be searched"
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test"))
    assert f"of {spent + 1}, 1 left; spent in about" in client.text("/runs/1")
    assert "more than the budget has" in client.text("/runs/1")
    assert f"{spent} / {spent + 1}" in client.text("/")
    with failed.transaction() as transaction:
        steer.set_max_tokens(transaction, runs_name(transaction), 1)
        assert token_budget.pause_if_spent(transaction, runs.lock_run(transaction, 1))
    page = client.text("/runs/1")
    assert "Why it is paused:</strong> token budget of 1 spent" in page
    assert "restmcts runs resume" in page
    failed.close()


def test_verdicts_that_nothing_checks_and_why_they_paused_a_run_are_on_its_page(
    failed: Database, served: Callable[[Source], Any]
) -> None:
    with failed.transaction() as transaction:
        entries = {1: LedgerEntry("a", 1, "4"), 2: LedgerEntry("b", 1, None)}
        truth_ledger.write(transaction, {1: 1, 2: 1}, entries)
        runs.change_run(transaction, 1, {"truth": {"source": "votes"}}, goes_on=False)
        runs.pause_run(transaction, 1, "answers flipped")
    page = served(Source(Database(str(failed.engine.url), read_only=True), "a test")).text("/runs/1")
    assert "Truth:</strong> votes, unchecked: no problems with true answers" in page
    assert "Truth (1):</strong> 1 of 2 trees decided." in page
    assert "Why it is paused:</strong> answers flipped" in page and "LARGER" not in page
    failed.close()


def test_flipped_problems_are_listed_with_both_answers_and_links_to_their_trees(
    failed: Database, served: Callable[[Source], Any]
) -> None:
    with failed.transaction() as transaction:
        solved = select(NODES.c.tree_id).where(NODES.c.verdict == "right").order_by(NODES.c.tree_id)
        first = int(transaction.execute(solved).scalars().first() or 0)
        assert 0 < first < 6
        entries = {first: LedgerEntry("d", 1, "<i>4</i>"), 6: LedgerEntry("d", 2, "5")}
        truth_ledger.write(transaction, dict.fromkeys(entries, 1), entries)
        voted = update(NODES).where(NODES.c.tree_id == first, NODES.c.verdict == "right")
        transaction.execute(voted.values(score=0.75))
        runs.change_run(transaction, 1, {"truth": {"source": "votes"}}, goes_on=False)
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test"))
    page = client.text("/runs/1")
    listed = page[page.index("<h2>Flipped answers") : page.index(">Phases</h2>")]
    assert f'<td class="text">&lt;i&gt;4&lt;/i&gt;</td><td>0.75</td><td><a href="/trees/{first}">' in listed
    assert 'href="/trees/6"' in listed and f'href="/compare?first={first}&amp;second=6"' in listed
    assert client.get(f"/compare?first={first}&second=6")[0] == 200
    failed.close()


def test_a_run_that_no_probe_checks_is_unchecked_beside_every_figure(
    failed: Database, served: Callable[[Source], Any]
) -> None:
    graded = SearchPhase("grade-base", 2, "evaluate", "train", "base", None, CotSettings())
    with failed.transaction() as transaction:
        runs.add_phases(transaction, 1, [graded])
        phase = next(row.id for row in runs.phases_of(transaction, 1) if row.name == graded.name)
        transaction.execute(update(TREES).where(TREES.c.id.in_([7, 8])).values(phase_id=phase, verdict="right"))
        done = {"trees": 2, "right": 2, "solved": 2, "failed": 0, "tokens": 1}
        transaction.execute(update(PHASES).where(PHASES.c.id == phase).values(state=PhaseState.DONE, result=done))
        runs.change_run(transaction, 1, {"truth": {"source": "votes"}}, goes_on=False)
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test"))
    mark = '<span class="soft">unchecked</span>'
    page, listed = client.text("/runs/1"), client.text("/")
    assert re.search(rf"100.0 % [^<]+ {mark}</td>", page), "the accuracy of the phase"
    assert f"Accuracy by iteration {mark}" in page and f"Solved {mark}" in page
    assert re.search(r"100.0 % [^<]+ unchecked</title>", page), "the hint of its point"
    assert f"AUC by iteration {mark}" in client.text("/runs/1/quality")
    assert f"Each outcome is {mark}." in client.text("/runs/1/problems")
    assert f"Each verdict is {mark}." in client.text("/runs/1/trees")
    assert re.search(rf"100.0 % [^<]+ {mark}</td>", listed)
    with failed.transaction() as transaction:
        runs.change_run(transaction, 1, {"probe_set": "probe"}, goes_on=False)
    pages = ("/", "/runs/1", "/runs/1/quality", "/runs/1/problems", "/runs/1/trees")
    assert not any(mark in client.text(address) for address in pages)
    failed.close()


def test_a_blocked_run_says_why_on_its_page(failed: Database, served: Callable[[Source], Any]) -> None:
    with failed.transaction() as transaction:
        blocks.block_checkpoint(transaction, 1, "the <bucket> is away")
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test"))
    assert "Why it is blocked:</strong> the &lt;bucket&gt; is away" in client.text("/runs/1")
    assert 'class="state blocked"' in client.text("/")
    with failed.transaction() as transaction:
        blocks.unblock_run(transaction, 1)
    assert 'class="state blocked"' not in client.text("/runs/1") + client.text("/")
    failed.close()


def runs_name(transaction: Transaction) -> str:
    return str(transaction.execute(select(RUNS.c.name)).scalar_one())


def test_gates_and_promotions_are_shown(failed: Database, served: Callable[[Source], Any]) -> None:
    with failed.transaction() as transaction:
        runs.add_phases(transaction, 1, [PromotionPhase("gate-1", 1, "policy", "base", "collect-1")])
        decided = {"candidate": "base", "incumbent": None, "promoted": True, "reason": "there was <none> before"}
        gate = update(PHASES).where(PHASES.c.name == "gate-1")
        transaction.execute(gate.values(state=PhaseState.DONE.value, result=decided))
        promotions.promote(transaction, runs.checkpoints_of(transaction, 1)["base"])
    page = served(Source(Database(str(failed.engine.url), read_only=True), "a test")).text("/runs/1")
    assert 'base <span class="badge">promoted' in page
    assert "there was &lt;none&gt; before" in page
    failed.close()


def test_what_a_checkpoint_was_measured_on_is_shown(failed: Database, served: Callable[[Source], Any]) -> None:
    with failed.transaction() as transaction:
        value = runs.checkpoints_of(transaction, 1)["value-0"]
        runs.add_bench(transaction, value.id, "run:<mine>", {"says": ["AUC 0.7.", "Sibling accuracy 0.5."]})
    page = served(Source(Database(str(failed.engine.url), read_only=True), "a test")).text("/runs/1")
    assert "value-0, measured as a reward model" in page
    assert "<strong>run:&lt;mine&gt;</strong>: AUC 0.7. Sibling accuracy 0.5." in page
    failed.close()


def test_lengths_of_time_are_told_in_two_units() -> None:
    assert [duration(seconds) for seconds in (0.2, 3.4, 75, 7500, 200_000)] == [
        "under 1 s",
        "3 s",
        "1 min 15 s",
        "2 h 05 min",
        "2 days 7 h",
    ]
