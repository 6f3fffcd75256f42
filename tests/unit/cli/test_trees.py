"""The commands `trees`: drawn for a terminal and a pipe, folded, narrowed to traces, exported."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.reporting.tree_text import TreeView, to_dot, tree_lines
from restmcts_cli.commands.records.trees import COLUMNS
from restmcts_cli.reports.shown_tables import print_fields, print_table
from typer.testing import Result

Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]


def node(node_id: int, parent_id: int | None, step: str, depth: int, **facts: Any) -> dict[str, Any]:
    fields = {
        "search_value": 0.5,
        "model_value": 0.5,
        "visits": 1,
        "final": False,
        "origin": "search",
        "verdict": None,
        "quality_value": None,
        **facts,
    }
    return {"node_id": node_id, "parent_id": parent_id, "step": step, "depth": depth, **fields}


LABEL = {"quality_value": 1.0, "reasoning_distance": 0, "step_is_right": True, "weighted_reward": 0.25}
TREE = [
    node(0, None, "", 0, visits=3),
    node(1, 0, "a\n", 1),
    node(2, 0, "b [red]\x07\n", 1),
    node(3, 1, "The answer is 7\n", 2, final=True, verdict="right", **LABEL),
    node(4, 1, "The answer is 3\n", 2, final=True, verdict="wrong", origin="rollout"),
    node(5, 2, "c\n", 2),
    node(6, 5, 'The answer is "4"\n', 3, final=True, verdict="wrong", search_value=0.9),
]


def drawn(chosen: int | None = 3, **view: Any) -> list[str]:
    return [line.plain for line in tree_lines(TREE, chosen, TreeView(**view))]


def test_whole_tree_with_verdicts_in_words() -> None:
    assert drawn() == [
        "(question)  n 3",
        "├── a  V 0.50 · n 1",
        "│   ├── The answer is 7  V 0.50 · n 1 · m 0 · r 0 · w 0.25 · v 1.00  RIGHT  CHOSEN",
        "│   └── The answer is 3  V 0.50 · n 1 · from rollout  WRONG  DECISIVE",
        "└── b [red]\\x07  V 0.50 · n 1  DECISIVE",
        "    └── c  V 0.50 · n 1",
        '        └── The answer is "4"  V 0.90 · n 1  WRONG',
    ]


def test_a_step_after_which_every_end_is_wrong_is_decisive_only_where_a_right_one_was_in_reach() -> None:
    lost = [one for one in TREE if one["node_id"] not in (3,)]
    assert not any("DECISIVE" in line.plain for line in tree_lines(lost, None, TreeView()))
    assert to_dot(TREE, None, "t").count("DECISIVE") == 2


def test_code_keeps_its_indentation() -> None:
    tree = [node(0, None, "", 0), node(1, 0, "    return  x\n", 1), node(2, 0, "\n\n", 1)]
    lines = [line.plain for line in tree_lines(tree, None, TreeView())]
    assert lines[1].startswith("├──     return x  V") and lines[2].startswith("└── (empty step)")


def test_where_no_value_model_was_asked_no_value_is_shown() -> None:
    tree = [node(0, None, "", 0), node(1, 0, "a\n", 1, model_value=None, search_value=None)]
    assert [line.plain for line in tree_lines(tree, None, TreeView())][-1] == "└── a  n 1"
    backed_up = [node(0, None, "", 0), node(1, 0, "a\n", 1, model_value=None, search_value=0.25)]
    assert "V 0.25" in list(tree_lines(backed_up, None, TreeView()))[-1].plain, "what a search backed up is a value"


def test_folding_counts_what_it_hides() -> None:
    assert [line.strip() for line in drawn(max_depth=1)] == [
        "(question)  n 3",
        "├── a  V 0.50 · n 1",
        "│   └── … 2 nodes below, 1 right, 1 wrong",
        "└── b [red]\\x07  V 0.50 · n 1  DECISIVE",
        "└── … 2 nodes below, 1 wrong",
    ]
    assert drawn(max_depth=0)[1:] == ["└── … 6 nodes below, 1 right, 2 wrong"]
    assert drawn(max_depth=9) == drawn()


def test_best_and_wrong_keep_their_traces() -> None:
    def ends(**view: Any) -> list[str]:
        return [found for line in drawn(**view) for found in re.findall(r'answer is "?(\d)', line)]

    assert ends(best=True) == ["7"]
    assert ends(best=True, chosen=None) == ["4"]
    assert ends(wrong=True) == ["3", "4"]
    assert ends(best=True, wrong=True) == ["7", "3", "4"]
    assert [line.plain for line in tree_lines(TREE[:2], None, TreeView(wrong=True))] == [
        "no wrong end in this tree: nothing to show of it"
    ]


def test_a_deep_tree_is_no_problem() -> None:
    chain = [node(0, None, "", 0), *(node(number, number - 1, "s\n", number) for number in range(1, 1500))]
    assert sum(1 for _ in tree_lines(chain, None, TreeView())) == 1500
    assert [line.plain.strip() for line in tree_lines(chain, None, TreeView(max_depth=2))][
        -1
    ] == "└── … 1,497 nodes below"


def test_graphviz_quotes_what_it_is_given() -> None:
    text = to_dot(TREE, 3, 'a "title" \\ of it')
    assert 'label="a \\"title\\" \\\\ of it"' in text
    assert "n3 [" in text and "penwidth=3" in text
    assert text.count("->") == len(TREE) - 1
    assert re.search(r"n4 \[.*wrong.*shape=box, style=dashed\];", text)
    unescaped = re.sub(r"\\.", "", text)
    assert unescaped.count('"') % 2 == 0


def test_listing_narrows(workdir: Path, document: Document, call: Command) -> None:
    everything = document("trees", "list", "mine", "--workdir", workdir)
    solved = document("trees", "list", "mine", "--solved", "--workdir", workdir)
    unsolved = document("trees", "list", "mine", "--unsolved", "--workdir", workdir)
    assert len(everything) == 10
    assert sorted(one["id"] for one in (*solved, *unsolved)) == [one["id"] for one in everything]
    assert {
        one["phase"] for one in document("trees", "list", "mine", "--phase", "collect-1", "--workdir", workdir)
    } == {"collect-1"}
    assert document("trees", "list", "mine", "--state", "failed", "--workdir", workdir) == []
    assert len(document("trees", "list", "mine", "--limit", "3", "--workdir", workdir)) == 3
    assert "has no phase 'x'" in str(call("trees", "list", "mine", "--phase", "x", "--workdir", workdir).exception)
    assert "states are waiting" in str(call("trees", "list", "mine", "--state", "x", "--workdir", workdir).exception)


def test_a_stored_tree_is_drawn_and_exported(workdir: Path, shown: Shown, document: Document, tmp_path: Path) -> None:
    tree_id = document("trees", "list", "mine", "--phase", "collect-1", "--workdir", workdir)[0]["id"]
    tree = document("trees", "show", tree_id, "--workdir", workdir)
    assert (tree["run"], tree["true_answer"], len(tree["nodes"])) == ("mine", "7", tree["num_nodes"] + 1)
    assert tree["nodes"][0]["visits"] == tree["iterations"] == 6
    text = shown("trees", "show", tree_id, "--workdir", workdir)
    assert text.count("  V ") == tree["num_nodes"]
    assert "\\x1b[31mnot red" in text and "\x1b" not in text
    out = tmp_path / "tree.json"
    shown("trees", "export", tree_id, "--out", out, "--workdir", workdir)
    assert len(json.loads(out.read_text())["nodes"]) == len(tree["nodes"])
    assert shown("trees", "export", tree_id, "--format", "dot", "--workdir", workdir).startswith("digraph")


def test_numbers_that_count_are_grouped_and_those_that_name_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert "id" in COLUMNS
    row = {"id": 31602, "tree_id": 4711, "pid": 12345, "seed": 20260, "nodes": 1234}
    print_table(list(row), [row], empty="")
    print_fields(row)
    printed = capsys.readouterr().out
    assert printed.count("1,234") == 2
    assert all(printed.count(number) == 2 for number in ("31602", "4711", "12345", "20260"))


def test_a_list_without_trees_says_what_was_asked_for(workdir: Path, shown: Shown) -> None:
    name = ("trees", "list", "mine", "--workdir", workdir)
    assert "run mine has no tree with --state failed --unsolved" in shown(*name, "--state", "failed", "--unsolved")


@pytest.mark.parametrize("verb", ["show", "export"])
def test_a_tree_that_is_not_there(workdir: Path, call: Command, verb: str) -> None:
    assert "there is no tree 999" in str(call("trees", verb, 999, "--workdir", workdir).exception)


def test_only_what_is_secondary_is_dim() -> None:
    line = list(tree_lines(TREE, 3, TreeView()))[2]
    styled = {line.plain[span.start : span.end].strip(): str(span.style) for span in line.spans}
    assert (styled["The answer is 7"], styled["RIGHT"], styled["│   ├──"]) == ("bold", "bold green", "dim")
    assert not line.style


def test_the_solutions_of_a_tree_are_exported_as_traces(workdir: Path, shown: Shown, document: Document) -> None:
    tree = document("trees", "list", "mine", "--solved", "--workdir", workdir)[0]
    nodes = document("trees", "show", tree["id"], "--workdir", workdir)["nodes"]
    ends = [node["node_id"] for node in nodes if node["final"]]
    written = shown("trees", "export", tree["id"], "--format", "verifiers", "--workdir", workdir)
    assert [json.loads(line)["info"]["node"] for line in written.splitlines()] == ends
