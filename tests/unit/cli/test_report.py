import io
import json
import random
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from restmcts.domain.stats.estimates import Figure, pooled_share, share
from restmcts.errors import StorageError
from restmcts.reporting.line_charts import Point, Series, category_axis, line_chart, number_axis
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.tree_pictures import MAX_NODES, DrawnNode, DrawnTree, draw_tree
from restmcts_cli.reports.run_report import render_page, render_table, write_report
from restmcts_cli.reports.run_report_data import (
    TRUE_ANSWERS,
    AnsweredProblem,
    GivenAnswer,
    IterationResult,
    Report,
    SearchResult,
    evaluate_values,
    json_line,
)
from restmcts_cli.reports.run_summary import summarise
from rich.console import Console

HOSTILE = "</title><script>alert('x')</script> & \"quoted\" [red]markup[/red]"
VOID = {"meta", "br", "hr", "img", "input", "link"}


def outcomes(num_right: int, total: int = 1000, seed: int = 0) -> tuple[bool, ...]:
    values = [index < num_right for index in range(total)]
    random.Random(seed).shuffle(values)
    return tuple(values)


def make_tree(num_children: int = 3) -> DrawnTree:
    nodes = [DrawnNode("", None, 30, None)]
    for index in range(num_children):
        nodes.append(DrawnNode(f"7 + {index} = 9\n", 0.3, 20 - min(index, 19), 0))
    nodes.append(DrawnNode("The answer is 31\n", 0.97, 2, 1, "right"))
    nodes.append(DrawnNode("The answer is 12\n", 0.1, 1, 2, "wrong"))
    return DrawnTree("Start: 7  Target: 31  Moves: +3 -5 *2", tuple(nodes))


@dataclass
class Stored:
    """A stored run whose texts are all the same."""

    text: str
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    finished_at = None

    @property
    def name(self) -> str:
        return self.text

    @property
    def config(self) -> dict[str, Any]:
        return {"spec": {"policy": self.text}}

    @property
    def provenance(self) -> list[dict[str, Any]]:
        return [{"command": self.text, "versions": {"python": self.text}, "machine": {"cpu": self.text}}]


def make_report(text: str = "plain") -> Report:
    graded = [Figure.of(outcomes(328)), Figure.of(outcomes(436, seed=1)), Figure.of(outcomes(514, seed=2))]
    return Report(
        title=f"Report of {text}",
        command=f"restmcts demo --seed 3 {text}",
        seed=3,
        seconds=171.25,
        iterations=(
            IterationResult(0, greedy=graded[0]),
            IterationResult(1, 2200, 1030, 286_000, 1800, 20_000, graded[1]),
            IterationResult(2, 2200, 1270, 284_000, 2400, 44_000, graded[2], control=Figure.of(outcomes(300, seed=3))),
        ),
        search=(
            SearchResult(f"greedy {text}", None, 38, 44, graded[1]),
            SearchResult("best-of-N", 160, 153.2, 181, Figure.of(outcomes(578, seed=4))),
            SearchResult("MCTS*", 160, 151.0, 172, Figure.of(outcomes(608, seed=5))),
        ),
        values=(
            evaluate_values(f"V_0 {text}", [0.9, 0.5, 0.4, 0.1, 0.3], [0, 1, 2, None, None]),
            evaluate_values("V_2", [0.9, 0.6, 0.4, 0.1, 0.2], [0, 1, 2, None, None]),
        ),
        tree=replace(make_tree(), question=text, nodes=(*make_tree().nodes, DrawnNode(text, 0.2, 1, 3))),
        answered=(AnsweredProblem(text, (GivenAnswer("as it came", text, "wrong"), GivenAnswer(text, "2", "right"))),),
        origin=RunOrigin(Stored(text), None),
        notes=(f"A note: {text}.",),
    )


class Page(HTMLParser):
    """Collects the tags of a page and holds every one to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_self_contained_and_well_formed() -> None:
    text = render_page(make_report())
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not any(
        name in {"src", "href"} or name.startswith("on") for _, attributes in page.tags for name in attributes
    )
    assert "http" not in text and "@import" not in text and "url(" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_hostile_text_is_escaped_everywhere() -> None:
    text = render_page(make_report(HOSTILE))
    assert "<script" not in text
    page = Page(text)
    assert page.open == []
    # title, heading, command, methods (table, legend), values, tree (question, node), settings,
    # command, versions and machine of the run, note
    assert text.count("&lt;script&gt;") >= 12
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Page(render_page(make_report())).tags}


def test_sections_without_data_are_left_out() -> None:
    text = render_page(Report(title="Nothing", command="restmcts selftrain", seed=0, seconds=1.0))
    assert Page(text).open == []
    assert "<section>" not in text


def test_selftrain_report_has_no_accuracy_column() -> None:
    report = Report("T", "c", 0, 1.0, iterations=(IterationResult(0), IterationResult(1, 20, 3, 900, 3, 40)))
    text = render_page(report)
    assert "<th>greedy" not in text and "<th>control" not in text and "<svg" not in text
    report = replace(report, solved=share(3, 20))
    assert summarise(report) == ["The search solved 3 of 20 problems (15.0 % [5.2, 36.0])."]
    assert summarise(replace(report, claims=False)) == ["The search solved 3 of 20 problems."]
    of_five = replace(report, solved=pooled_share([(3, 4), *[(0, 4)] * 4]))
    assert summarise(of_five) == ["The search found a right end in 3 of 20 trees (15.0 % [2.7, 52.9]), on 5 problems."]


def test_write_report_replaces_whole_and_survives_surrogates(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(make_report("lone \ud800 surrogate"), path)
    assert "surrogate" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_write_report_on_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the report"):
        write_report(make_report(), tmp_path / "file" / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(StorageError, match="another folder"):
        write_report(make_report(), tmp_path / "folder.html")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.html"]


def test_terminal_tables_show_text_as_it_is() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_table(make_report(HOSTILE)))
    text = console.export_text()
    assert "51.4 % ± 1.6" in text and "[red]markup[/red]" in text and "V_2" in text


def test_report_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(asdict(make_report())))["seed"] == 3


def test_json_line_has_the_promised_fields() -> None:
    line = json_line(make_report(), "out/report.html")
    assert "\n" not in line
    fields = json.loads(line)
    assert set(fields) == {
        "seed",
        "seconds",
        "iterations",
        "control",
        "rest_em",
        "value_auc",
        "value_auc_stderr",
        "value_auc_interval",
        "value_sibling_accuracy",
        "value_sibling_accuracy_stderr",
        "value_sibling_accuracy_interval",
        "search",
        "notes",
        "unchecked",
        "report",
    }
    assert fields["iterations"][2] == {
        "iteration": 2, "greedy_accuracy": 0.514, "stderr": 0.01581, "interval": [0.48303, 0.54487],
        "trees": 2200, "solved": 1270, "tokens": 284_000,
    }  # fmt: skip
    assert fields["control"] == 0.3 and fields["rest_em"] is None and fields["report"] == "out/report.html"
    assert fields["search"][0]["budget_tokens"] is None and fields["search"][1]["accuracy"] == 0.578


def said(report: Report) -> str:
    return " ".join(summarise(report))


def test_summary_claims_what_reaches_three_errors() -> None:
    text = said(make_report())
    assert "Iteration 2 answers 51.4 % ± 1.6 of 1,000 held-out problems greedily." in text
    assert "18.6 points above iteration 0 (32.8 % ± 1.5)" in text
    assert "21.4 points above the control (30.0 % ± 1.4)" in text
    assert "Both differences reach 3 standard errors" in text
    assert "no more than noise" in text.split("Under a limit of 160 tokens")[1]
    assert "one run with seed 3" in text


@pytest.mark.parametrize(
    ("base", "last", "control", "expected"),
    [
        (500, 514, 300, "1.4 points above iteration 0"),
        (514, 500, 300, "1.4 points below iteration 0"),
        (300, 514, 520, "0.6 points below the control"),
        (514, 514, 300, "level with iteration 0"),
    ],
)
def test_summary_does_not_claim_what_the_numbers_do_not_show(base: int, last: int, control: int, expected: str) -> None:
    rows = (
        IterationResult(0, greedy=Figure.of(outcomes(base))),
        IterationResult(1, greedy=Figure.of(outcomes(last, seed=1)), control=Figure.of(outcomes(control, seed=2))),
    )
    text = said(Report("t", "c", 0, 1.0, iterations=rows))
    assert expected in text and "does not show" in text and "Both differences" not in text


def test_a_method_run_beside_has_a_column_a_line_and_a_sentence() -> None:
    beside = Figure.of(outcomes(450, seed=2))
    rows = (
        IterationResult(0, greedy=Figure.of(outcomes(300))),
        IterationResult(1, greedy=Figure.of(outcomes(514, seed=1)), beside=beside),
    )
    report = Report("t", "c", 0, 1.0, iterations=rows)
    assert "It is 6.4 points above ReST^EM (45.0 % ± 1.6), which sampled as many tokens instead of" in said(report)
    page = render_page(report)
    assert "ReST^EM: samples, as many tokens" in page and "45.0 % ± 1.6" in page
    assert json.loads(json_line(report, "r.html"))["rest_em"] == 0.45


def test_a_run_of_votes_stands_beside_true_answers() -> None:
    rows = (
        IterationResult(0, greedy=Figure.of(outcomes(300))),
        IterationResult(1, greedy=Figure.of(outcomes(450, seed=1)), beside=Figure.of(outcomes(514, seed=2))),
    )
    report = Report("t", "c", 0, 1.0, iterations=rows, beside=TRUE_ANSWERS)
    assert "It is 6.4 points below true answers (51.4 % ± 1.6), which learnt from verified solutions" in said(report)
    assert "The same with true answers" in render_page(report)
    assert json.loads(json_line(report, "r.html"))["true_answers"] == 0.514


def test_summary_without_a_standard_error() -> None:
    rows = (IterationResult(0, greedy=Figure.of([False])), IterationResult(1, greedy=Figure.of([True])))
    assert "too few problems" in said(Report("t", "c", 0, 1.0, iterations=rows))


def test_summary_when_methods_are_level() -> None:
    same = Figure.of(outcomes(500))
    search = (SearchResult("A", 100, 90, 104, same), SearchResult("B", 100, 95, 99, same))
    assert "A and B come out level at 50.0 % ± 1.6" in said(Report("t", "c", 0, 1.0, search=search))


def test_summary_says_when_the_value_model_got_worse() -> None:
    distances = [1, 2, 3, 1, None, None, None, 4]
    values = ([0.9, 0.8, 0.2, 0.7, 0.1, 0.3, 0.1, 0.9], [0.1, 0.2, 0.9, 0.4, 0.8, 0.3, 0.9, 0.1])
    worse = tuple(evaluate_values(f"V_{number}", own, distances) for number, own in enumerate(values))
    text = said(Report("t", "c", 0, 1.0, values=worse))
    assert "V_1 ranks a partial solution that can still be solved above one that cannot with chance 0.23 [0." in text
    assert "(AUC; 0.50 is a guess), less than V_0 with 0.93 [0." in text
    assert "standard errors, probably more than noise" in text.partition("V_0 with")[2]


def test_evaluate_values_groups_by_distance() -> None:
    quality = evaluate_values("V", [0.2, 0.4, 0.9, 0.1], [2, 2, 0, None])
    assert [(p.distance, round(p.value.value, 3), p.value.n) for p in quality.points] == [
        (0, 0.9, 1), (2, 0.3, 2), (None, 0.1, 1),
    ]  # fmt: skip
    assert quality.auc is not None and (quality.auc.value, quality.auc.n) == (pytest.approx(1.0), 4)
    assert quality.correlation is not None and quality.correlation.value > 0.8


def test_sibling_accuracy_compares_steps_after_the_same_ones() -> None:
    """Of x two siblings in the right order, one pair tied, and one of equal distance that is no
    pair; of y one in the wrong order. What comes twice is compared once.
    """
    partial = [("x", "a"), ("x", "b"), ("x", "c"), ("y", "a"), ("y", "b"), ("y", "b")]
    values, distances = [0.9, 0.4, 0.9, 0.1, 0.2, 0.2], [1, 3, None, 2, None, None]
    quality = evaluate_values("V", values, distances, partial)
    # a above b, a level with c, b below c though nearer; then the wrong order of y.
    found = quality.sibling_accuracy
    assert found is not None and (found.value, found.n) == (pytest.approx(0.375), 2)
    assert found.standard_error > 0.1, "x and y disagree"
    assert evaluate_values("V", values, distances).sibling_accuracy is None
    report = Report("t", "c", 0, 1.0, values=(quality,))
    assert "prefers the one nearer to a right answer in 37.5 % [" in said(report)
    assert json.loads(json_line(report, "r"))["value_sibling_accuracy"] == {"V": pytest.approx(0.375)}


def test_errors_of_value_models_are_over_problems() -> None:
    """Ten copies of one problem's steps say no more than it does ten times; two problems do."""
    values, distances = [0.9, 0.6, 0.2, 0.5], [1, 2, None, None]
    partial = [(("q", number % 2), str(number)) for number in range(4)]
    alone = evaluate_values("V", values, distances, partial, ["q"] * 4)
    assert alone.auc is not None and (alone.auc.n, alone.auc.standard_error) == (1, 0.0)
    two = evaluate_values("V", [*values, 0.1, 0.2, 0.9, 0.8], distances * 2, problems=["q"] * 4 + ["r"] * 4)
    assert two.auc is not None and two.auc.n == 2 and two.auc.standard_error > 0.1


def test_small_tree_is_drawn_whole() -> None:
    svg = draw_tree(make_tree())
    assert svg.count('<g class="node') == 6 and "more below" not in svg
    assert svg.count("✓") == 1 and svg.count("✗") == 1


def test_large_tree_is_folded_and_keeps_a_right_and_a_wrong_leaf() -> None:
    svg = draw_tree(make_tree(500))
    assert svg.count('<g class="node') == MAX_NODES + 1, "the question is not counted"
    assert "✓" in svg and "✗" in svg
    assert f"+ {502 - MAX_NODES} more below" in svg


def test_nodes_are_the_steps_that_a_search_made_and_none_without_a_value_has_a_bar() -> None:
    nodes = (DrawnNode("", None, 4, None), DrawnNode("a\n", None, 3, 0), DrawnNode("b\n", None, 0, 0, is_given=True))
    tree = DrawnTree("q", nodes)
    assert '<p class="soft">1 node, the most visited step first.</p>' in render_page(replace(make_report(), tree=tree))
    assert "step first. The bar is V, the value in the search" in render_page(make_report())
    assert 'class="bar"' not in draw_tree(tree) and "0.00" not in draw_tree(tree)


def test_a_decisive_step_has_a_dashed_circle() -> None:
    nodes = (DrawnNode("", None, 1, None), DrawnNode("    return x\n", 0.5, 1, 0, "wrong", is_decisive=True))
    svg = draw_tree(DrawnTree("q", nodes))
    assert svg.count('class="lost"') == 1 and '<g class="node wrong decisive">' in svg
    assert ">    return x</text>" in svg, "code keeps its indentation"


def test_long_steps_are_cut_but_kept_as_a_hint() -> None:
    svg = draw_tree(DrawnTree("q", (DrawnNode("", None, 1, None), DrawnNode("word " * 30, 0.5, 1, 0))))
    assert "…" in svg and ("word " * 30).strip() in svg


def test_tree_whose_child_comes_first_is_refused() -> None:
    with pytest.raises(ValueError, match="before its parent"):
        draw_tree(DrawnTree("q", (DrawnNode("", None, 1, 1), DrawnNode("a", 0.5, 1, None))))


@pytest.mark.parametrize("values", [[0.0], [0.3, 0.3], [1e-9, 2e-9], [0.31, 0.55], [5, 12_345], []])
def test_axes_hold_their_values_with_few_ticks(values: list[float]) -> None:
    axis = number_axis("y", values, floor=0.0)
    assert axis.low < axis.high and 2 <= len(axis.ticks) <= 7
    assert all(axis.low <= value <= axis.high * (1 + 1e-9) for value in values)
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)


def test_chart_of_many_series_stays_within_the_colours_of_the_page() -> None:
    series = [Series(f"m{index}", (Point(0, 0.1), Point(1, 0.2, 0.05))) for index in range(12)]
    svg = line_chart("t", category_axis("x", ["a", "b"]), number_axis("y", [0, 1]), series)
    assert set(re.findall(r"series c(\d+)", svg)) == {str(index) for index in range(7)}


def test_an_observation_is_named_in_the_picture_of_a_tree() -> None:
    nodes = (DrawnNode("", None, 1, None), DrawnNode("calc: 3*9\n", 0.5, 1, 0))
    svg = draw_tree(DrawnTree("q", (*nodes, DrawnNode("result: 27\n", 0.5, 1, 1, is_observation=True))))
    assert "result: 27  (observation)" in svg and svg.count("(observation)") == 1
