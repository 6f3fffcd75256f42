"""`restmcts prm bench` on a run's trees, and benches that are stored with a checkpoint."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.domain.labels.annotations import annotation
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.reporting.benches import bench_section
from restmcts.testing.policy_servers import END, PolicyServer
from restmcts.testing.prm_models import build_trl
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.truth.annotate import annotate
from restmcts_cli.commands.records.checkpoints import published_card
from restmcts_cli.main import app
from restmcts_cli.reward_models.run_trees import step_orders, trees_of_run
from typer.testing import CliRunner

LINE = {"problem": "What is 1 + 2?", "steps": ["1 + 2 = 3.", "So 3."], "label": -1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    """A work folder whose run has searched four problems."""
    path = tmp_path_factory.mktemp("searched")
    problems = [Problem(f"problem {number}", RIGHT_ANSWER) for number in range(4)]
    search = MctsStarSettings(mode="collect", branch=3, roll_forward_steps=2, keep_rollouts=True, max_depth=5)
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", search, Budget(iterations=8))
    search_folder(path, "mine", problems, [phase], RandomModels())
    return path


def set_truth(folder: Path, config: dict[str, Any]) -> None:
    database = Database(f"sqlite:///{folder / 'run.db'}")
    with database.transaction() as transaction:
        runs.change_run(transaction, 1, config, goes_on=False)
    database.close()


def call(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_model_is_measured_on_the_trees_of_a_run(folder: Path, tmp_path: Path) -> None:
    """A judge that is surer with every character knows nothing of the trees."""
    with PolicyServer(
        log_probs_of=lambda prompt: {"yes": -0.1 - len(prompt) / 5000, "no": -1.0, END: -30.0}, max_context=20_000
    ) as server:
        arguments = ("prm", "bench", server.uri("openai", "&format=judge"), "--on", "mine", "--workdir", folder)
        found = json.loads(call(*arguments, "--json"))
        said = call(*arguments, "--phase", "collect-1", "--out", tmp_path / "out")
        asked = len(server.bodies)
        again = call(*arguments, "--phase", "collect-1", "--out", tmp_path / "out")
        assert again == said and len(server.bodies) == asked
        checked_page = (tmp_path / "out" / "report.html").read_text()
        set_truth(folder, {"truth": {"source": "votes"}})
        unchecked = call(*arguments, "--phase", "collect-1", "--out", tmp_path / "out")
        by_program = json.loads(call(*arguments, "--json"))
        set_truth(folder, {"truth": {"source": "answers"}})
    figures = re.findall(r"0\.\d+ ± 0\.\d+( unchecked)?", unchecked)
    assert len(figures) >= 3 and all(figures)
    assert (
        "The verdicts of run mine are unchecked" in unchecked
        and "Calibration unchecked" in (tmp_path / "out" / "report.html").read_text()
    )
    assert by_program["unchecked"] and not found["unchecked"]
    assert "unchecked" not in said + checked_page
    assert "unchecked" in bench_section({"run:mine": by_program}).splitlines()[4]
    database = Database(f"sqlite:///{folder / 'run.db'}")
    with database.transaction() as transaction:
        rows = [row for batch in runs.labelled_trees(transaction, 1, ("collect-1",)) for row in batch]
    database.close()
    assert found["num_problems"] <= len(rows) == 4 and found["trees"] >= 1
    assert found["num_steps"] == sum(one["num_steps"] for one in found["by_depth"])
    assert found["num_steps"] == sum(one["share_right"]["n"] for one in found["bins"])
    for name in ("auc", "siblings", "calibration_error"):
        assert 0.0 <= found[name]["value"] <= 1.0
    assert found["auc"]["n"] == found["num_problems"]
    assert "sibling accuracy" in said and "errors are over problems" in said
    assert [order["by"] for order in found["orders"]] == ["likelihood", "combined"]
    assert "Who orders steps best" in said and "By V + 0.1 log p: AUC" in said
    ways = [choice["way"] for choice in found["choices"]]
    assert ways[0] == "best of 2" and ways[-1] == "best-first, 50 % of the tokens"
    for choice in found["choices"]:
        assert choice["gain"]["value"] == pytest.approx(choice["model"]["value"] - choice["at_random"]["value"])
        assert choice["model"]["value"] <= choice["any_right"]["value"] and choice["tokens"] > 0.0
    assert "What its values buy at equal tokens" in said and "more than at random, at the same tokens" in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Value and right leaves, by depth" in page and "<svg" in page and "a chance" in page


def test_steps_are_ordered_by_likelihood_and_by_both_as_by_hand(folder: Path) -> None:
    """A value model that says the same of all steps leaves the order to 0.1 log p."""
    database = Database(f"sqlite:///{folder / 'run.db'}")
    with database.transaction() as transaction:
        found = trees_of_run(transaction, "mine", None, None)
    database.close()
    values = {one.tree_id: dict.fromkeys(one.labels, 0.5) for one in found}
    likelihood, combined = step_orders(found, values)
    scores: dict[str, list[tuple[float, bool]]] = {"likelihood": [], "combined": []}
    for one in found:
        for node_id, label in one.labels.items() if one.has_labels else ():
            lineage = one.tree.lineage(one.tree[node_id])
            total = sum(node.log_prob for node in lineage)
            num_tokens = max(sum(node.num_tokens for node in lineage), 1)
            scores["likelihood"].append((total / num_tokens, label.step_is_right))
            scores["combined"].append((0.5 + 0.1 * total, label.step_is_right))
    for order in (likelihood, combined):
        pairs = [
            (right > wrong) + (right == wrong) / 2
            for right, is_right in scores[order.by]
            for wrong, is_wrong in scores[order.by]
            if is_right and not is_wrong
        ]
        assert order.auc is not None and order.siblings is not None
        assert order.auc.value == pytest.approx(sum(pairs) / len(pairs))
    assert likelihood.auc != combined.auc


def test_a_model_is_compared_with_the_people_who_annotated_a_run(folder: Path, tmp_path: Path) -> None:
    """A judge that says yes to everything agrees where people say right, and orders nothing."""
    shutil.copytree(folder, tmp_path / "work")
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    with database.transaction() as transaction:
        for tree in (1, 2, 3):
            for node, verdict in ((1, "right"), (2, "wrong" if tree == 1 else "right"), (3, "unsure")):
                annotate(transaction, tree, node, annotation("step", verdict, "Ada", "", "viewer"))
    database.close()
    with PolicyServer(log_probs_of=lambda _: {"yes": -0.1, "no": -3.0, END: -30.0}, max_context=20_000) as server:
        model = server.uri("openai", "&format=judge")
        arguments = ("prm", "bench", model, "--on", "annotations:mine", "--workdir", tmp_path / "work")
        found = json.loads(call(*arguments, "--json"))
        said = " ".join(call(*arguments).split())
        nothing = CliRunner().invoke(app, [*map(str, arguments[:-1]), str(folder)])
    (steps,) = found["agreements"]
    assert (steps["of"], steps["num"], steps["num_problems"]) == ("steps", 6, 3)
    assert steps["accuracy"]["value"] == steps["share_right"] == pytest.approx(5 / 6)
    low, high = steps["accuracy_interval"]
    assert 0.0 < low < 5 / 6 < high <= 1.0
    assert steps["auc"]["value"] == 0.5
    assert found["headline"]["name"] == "agreement on steps" and found["on"] == "annotations:mine"
    assert "It agrees with people on 83.3 % of 6 steps of 3 problems" in said
    assert "On steps it is no better than chance" in said
    assert "has no step or answer that people agree on" in str(nothing.exception)


def test_a_model_that_can_score_no_path_is_one_line(folder: Path) -> None:
    with PolicyServer(max_context=5) as server:
        arguments = ["prm", "bench", server.uri("openai", "&format=judge"), "--on", "mine", "--workdir", str(folder)]
        result = CliRunner().invoke(app, arguments)
    assert "could score no path of run mine: " in str(result.exception) and result.exit_code != 0


def test_a_bench_is_stored_with_the_checkpoint_and_shown(
    folder: Path, tmp_path: Path, search_folder: Callable[..., int]
) -> None:
    build_trl(tmp_path / "model")
    bench = tmp_path / "bench.jsonl"
    bench.write_text("".join(json.dumps(LINE | {"label": label}) + "\n" for label in (-1, 1)))
    database = Database(f"sqlite:///{folder / 'run.db'}")
    with database.transaction() as transaction:
        uri = f"{tmp_path / 'model'}?separator=%0A%0A"
        runs.add_checkpoint(transaction, 1, "value-1", "value", uri, uri)
    arguments = ("prm", "bench", "value-1", "--checkpoint-of", "mine", "--workdir", folder)
    first = json.loads(call(*arguments, "--on", bench, "--json"))
    call(*arguments, "--on", "mine")
    shown = json.loads(call("checkpoints", "show", "mine", "value-1", "--workdir", folder, "--json"))
    assert set(shown["benches"]) == {str(bench), "run:mine"}
    kept = shown["benches"][str(bench)]
    assert kept["headline"] == first["headline"] and "misses" not in kept
    text = " ".join(call("checkpoints", "show", "mine", "value-1", "--workdir", folder).split())
    assert f"bench (1) {bench}: " in text and "sibling accuracy" in text
    with database.transaction() as transaction:
        row = runs.checkpoints_of(transaction, 1)["value-1"]
        assert runs.checkpoints_of(transaction, 1)["base"].benches == {}
    database.close()
    (tmp_path / "README.md").write_text("# value-1\n")
    card = published_card(tmp_path, row.benches)
    assert card.startswith("# value-1\n") and "## Measured as a reward model" in card
    assert "| run:mine | AUC |" in card
    assert published_card(tmp_path, {}) == "# value-1\n"
    assert "no checkpoint 'value-9'" in str(
        CliRunner().invoke(app, ["prm", "bench", "value-9", *map(str, arguments[3:]), "--on", "mine"]).exception
    )
