"""`restmcts prm doctor`: sound models pass, and each fault is named."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import scored_branches
from restmcts.domain.stats.separation import StepPair, separation
from restmcts.modeling.prm import meaning
from restmcts.modeling.prm.doctor import examine
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.meaning import arithmetic_problems, examine_meaning
from restmcts.modeling.prm.reference import parse_reference
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.testing.knowing_judges import CONTEXT, knowing_judge
from restmcts.testing.policy_servers import PolicyServer
from restmcts.testing.prm_models import BUILDERS, build_judge, build_thudm, build_trl, make_config, make_tokenizer, save
from restmcts_cli.main import app
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner


def faults(folder: Path, options: str = "") -> dict[str, str]:
    prm = load_prm(parse_reference(f"{folder}{options}"), folder)
    return {finding.check: f"{finding.found}; {finding.remedy}" for finding in examine(prm) if not finding.right}


def pad_on(folder: Path, side: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": side}))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_sound_model_of_every_format_is_fit(tmp_path: Path, name: str) -> None:
    build, options = BUILDERS[name]
    build(tmp_path)
    pad_on(tmp_path, "left" if name == "thudm" else "right")
    if name == "thudm":
        soften(tmp_path)
    assert faults(tmp_path, options) == {}


def soften(folder: Path) -> None:
    """Make the head's scores lie well inside the range."""
    weights = torch.load(folder / "value_model.pt", weights_only=True)
    weights["LN.weight"] *= 0.02
    weights["LN.bias"] = torch.full_like(weights["LN.bias"], 0.5)
    torch.save(weights, folder / "value_model.pt")


def test_a_value_head_read_at_the_last_position_of_right_padding_is_reported(tmp_path: Path) -> None:
    build_thudm(tmp_path)
    soften(tmp_path)
    pad_on(tmp_path, "right")
    found = faults(tmp_path)
    assert list(found) == ["last position"]
    assert "padded on the right" in found["last position"] and "padding_side to left" in found["last position"]


def test_what_follows_a_step_must_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_trl(tmp_path)
    prm = load_prm(parse_reference(f"{tmp_path}"), tmp_path)
    trunk = prm.reader.trunk

    class BothWays(torch.nn.Module):
        config = trunk.config

        def forward(self, **inputs: Any) -> Any:
            output = trunk(**inputs)
            output.last_hidden_state = output.last_hidden_state + output.last_hidden_state.mean(dim=1, keepdim=True)
            return output

    prm.reader.trunk = BothWays()
    wrong = {finding.check for finding in examine(prm) if not finding.right}
    assert {"prefixes", "padding side"} <= wrong


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda weights: weights["LN.weight"].mul_(50), "range"),
        (lambda weights: weights["LN.weight"].fill_(0), "range"),
        (lambda weights: weights["LN.weight"].fill_(float("nan")), "range"),
    ],
)
def test_a_head_of_another_scale_or_without_training_is_reported(
    tmp_path: Path, change: Callable[[Any], Any], check: str
) -> None:
    build_thudm(tmp_path)
    pad_on(tmp_path, "left")
    weights = torch.load(tmp_path / "value_model.pt", weights_only=True)
    change(weights)
    torch.save(weights, tmp_path / "value_model.pt")
    assert check in faults(tmp_path)


def test_a_short_context_is_reported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(make_config(num_labels=1, max_position_embeddings=400))
    save(tmp_path, model, make_tokenizer())
    assert list(faults(tmp_path)) == ["length limit"]


def test_the_command_shows_a_verdict_and_exits_by_it(tmp_path: Path) -> None:
    build_trl(tmp_path / "untrained")
    shown = CliRunner().invoke(app, ["prm", "doctor", str(tmp_path / "untrained")])
    assert shown.exit_code == 1 and "trl, as its files show" in shown.stdout and "not fit" in shown.stdout
    assert "no better than chance" in " ".join(shown.stdout.split())
    build_thudm(tmp_path / "faulty")
    pad_on(tmp_path / "faulty", "right")
    wrong = CliRunner().invoke(app, ["prm", "doctor", str(tmp_path / "faulty"), "--json"])
    document = json.loads(wrong.stdout)
    assert wrong.exit_code == 1 and not document["right"] and document["format"]["name"] == "thudm"
    assert {"check", "right", "found", "remedy", "decides"} == set(document["checks"][0])


@pytest.fixture
def few_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each built-in problem is two requests to a server."""
    monkeypatch.setattr(meaning, "NUM_ARITHMETIC", 10)


def doctor_of_judge(of_right: float, of_wrong: float, *options: str) -> tuple[int, dict[str, Any]]:
    known = [*arithmetic_problems(), *SOLVED]
    with PolicyServer(log_probs_of=knowing_judge(known, of_right, of_wrong), max_context=CONTEXT) as server:
        model = server.uri("openai", "&format=judge")
        shown = CliRunner().invoke(app, ["prm", "doctor", model, "--json", *options])
    assert shown.exit_code in (0, 1), shown.output
    document = json.loads(shown.stdout)
    return shown.exit_code, {check["check"]: check for check in document["checks"]}


SOLVED = [
    Problem(
        f"A box holds {n} pens. How many pens do 3 boxes hold?",
        f"{3 * n}",
        (f"3 * {n} = {3 * n} pens.\n", f"The answer is {3 * n}\n"),
    )
    for n in range(11, 31)
]


def test_what_scores_mean_is_found_on_built_in_arithmetic(few_built_in: None) -> None:
    exit_code, checks = doctor_of_judge(0.95, 0.05)
    assert exit_code == 0
    found = checks["arithmetic"]
    assert found["right"] and "100.0 %" in found["found"] and "AUC 1.00" in found["found"], found


class Knowing:
    """Scores a step by whether a solution has it."""

    def __init__(self, of_right: float, of_wrong: float) -> None:
        self.of_right, self.of_wrong = of_right, of_wrong
        self.right = {step for problem in arithmetic_problems() for step in problem.solution or ()}

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        return [
            scored_branches(
                request,
                [[self.of_right if steps[-1] in self.right else self.of_wrong] for steps in request.branches],
                "last",
                1,
            )
            for request in requests
        ]


@pytest.mark.parametrize(
    ("of_right", "of_wrong", "remedy"),
    [
        (0.95, 0.05, ""),
        (0.05, 0.95, "labels are flipped"),
        (0.999, 0.998, "at one end of the range"),
        (0.7, 0.7, "all scores are one"),
    ],
    ids=["perfect", "inverted", "saturated", "constant"],
)
def test_what_scores_mean_is_said_with_what_to_do(of_right: float, of_wrong: float, remedy: str) -> None:
    found = examine_meaning(Knowing(of_right, of_wrong), "arithmetic", arithmetic_problems(), decides=True)
    assert found.right is (not remedy) and remedy in found.remedy, found


def test_a_persons_solved_problems_decide_over_the_built_in_ones(tmp_path: Path, few_built_in: None) -> None:
    file = tmp_path / "solved.jsonl"
    rows = [{"question": p.question, "answer": p.answer, "solution": "".join(p.solution or ())} for p in SOLVED]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # It knows the person's problems alone: of the others it thinks every step wrong.
    with PolicyServer(log_probs_of=knowing_judge(SOLVED, 0.9, 0.1), max_context=CONTEXT) as server:
        model = server.uri("openai", "&format=judge")
        shown = CliRunner().invoke(app, ["prm", "doctor", model, "--problems", str(file), "--json"])
    checks = {check["check"]: check for check in json.loads(shown.stdout)["checks"]}
    assert shown.exit_code == 0, shown.output
    assert checks[str(file)]["right"] and checks[str(file)]["decides"] and "of 40 pairs" in checks[str(file)]["found"]
    assert not checks["arithmetic"]["decides"]


def test_problems_without_solutions_are_refused_in_one_line(tmp_path: Path) -> None:
    build_trl(tmp_path / "model")
    file = tmp_path / "unsolved.jsonl"
    file.write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    shown = CliRunner().invoke(app, ["prm", "doctor", str(tmp_path / "model"), "--problems", str(file)])
    assert shown.exit_code != 0 and "no problem with a solution" in str(shown.exception or shown.output)


def test_a_separator_that_the_tokenizer_drops_is_reported(tmp_path: Path) -> None:
    build_trl(tmp_path)
    assert "markers" not in faults(tmp_path, "?separator=%0A%0A")
    file = tmp_path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "\n"}, "content": ""}
    file.write_text(json.dumps(tokenizer))
    assert "drops or joins the separator" in faults(tmp_path, "?separator=%0A%0A")["markers"]


@pytest.mark.parametrize(
    ("pairs", "meaning"),
    [
        ([(0.9, 0.1)] * 20, "separated"),
        ([(0.1, 0.9)] * 20, "flipped"),
        ([(0.6, 0.4), (0.4, 0.6)] * 10, "chance"),
        ([(0.6, 0.4), (0.4, 0.6)] * 2, "too few problems"),
        ([(0.5, 0.5)] * 20, "constant"),
        ([(0.991, 0.99)] * 20, "saturated"),
        ([(0.019, 0.01), (0.01, 0.019)] * 10, "saturated"),
        ([(1.0, 0.0)] * 20, "separated"),
    ],
)
def test_the_meaning_of_values_follows_from_pairs(pairs: list[tuple[float, float]], meaning: str) -> None:
    measured = separation([StepPair(number, 0, *pair) for number, pair in enumerate(pairs)])
    assert measured.meaning == meaning


def test_figures_of_pairs_are_those_worked_out_by_hand() -> None:
    # Values of right steps .9 .5 .4, of wrong ones .2 .6 .4: pairs won 1, 0, 1/2; of the nine
    # comparisons .9 wins 3, .5 wins 2, .4 wins 1 and ties 1.
    measured = separation([StepPair(0, 0, 0.9, 0.2), StepPair(0, 1, 0.5, 0.6), StepPair(1, 0, 0.4, 0.4)])
    assert measured.siblings.value == pytest.approx(1.5 / 3)
    assert measured.auc.value == pytest.approx(6.5 / 9)
    assert (measured.num_pairs, measured.num_problems, measured.saturated) == (3, 2, 0.0)


def test_a_pair_that_does_not_fit_takes_none_of_the_others_with_it(tmp_path: Path) -> None:
    build_trl(tmp_path)
    prm = load_prm(parse_reference(str(tmp_path)), tmp_path)
    scorer = TransformersScorer(prm.loaded, reader=prm.reader)
    long = Problem("1 " * 600, None, ("1 + 1 = 2\n",))
    found = examine_meaning(scorer, "mine", [*SOLVED, long], decides=True)
    assert "of 40 pairs" in found.found and "not scored: 1 (" in found.found


def test_a_judge_is_asked(tmp_path: Path, few_built_in: None) -> None:
    build_judge(tmp_path)
    shown = CliRunner().invoke(app, ["prm", "doctor", f"{tmp_path}?format=judge"])
    assert "judge, as said" in shown.stdout and "for 9 steps" in shown.stdout and "whole solutions" in shown.stdout
    assert shown.exit_code == 1 and "that were not scored" in " ".join(shown.stdout.split())


def test_a_server_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTMCTS_POLICY_RETRY_SECONDS", "0")
    shown = CliRunner().invoke(app, ["prm", "doctor", "openai+http://127.0.0.1:1/v1?model=m&format=judge", "--json"])
    document = json.loads(shown.stdout)
    assert shown.exit_code == 1 and not document["right"]
    assert {check["remedy"] for check in document["checks"]} == {"start the server, or check its URL"}


def test_formats_are_listed() -> None:
    rows = json.loads(CliRunner().invoke(app, ["prm", "formats", "--json"]).stdout)
    assert {row["name"] for row in rows} == {*BUILDERS, "value", "judge", "implicit", "ensemble"}
