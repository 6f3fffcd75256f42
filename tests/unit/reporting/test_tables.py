"""One table in its four renderings, and figures as they are printed everywhere."""

import csv
import io
from dataclasses import replace

import pytest
from restmcts.domain.stats.estimates import Estimate, share
from restmcts.reporting.figures import above_or_below, against_noise, gain, leader, percent, points, rows_in_words
from restmcts.reporting.tables import Table
from rich.console import Console

HOSTILE = "<b>a|b</b> [red]c[/red]"
TABLE = Table("Title", ("name", "tokens", "seconds", "seen"), ((HOSTILE, 12_345, 0.126, None), ("x", 0, 1.0, True)))


def test_the_terminal_shows_texts_as_they_are() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(TABLE.terminal())
    text = console.export_text()
    assert "Title" in text and HOSTILE in text and "12,345" in text and "0.13" in text and "–" in text and "yes" in text


WIDE = Table(
    "Accuracy by iteration",
    (
        "iteration",
        "greedy accuracy",
        "control",
        "problems evaluated",
        "trees",
        "solved",
        "tokens",
        "step values learnt",
    ),
    tuple((number, "13.4 % ± 1.5", "10.8 % ± 1.4", 500, 12_500, 11_144, 130_569_123, 7049) for number in range(3)),
)
LONG = Table(
    "Files", ("digest", "name", "rows"), (("sha256:" + 9 * "01234567", "a b c d e f g h i j k l m n o p", 1_234_567),)
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 400])
@pytest.mark.parametrize("table", [TABLE, WIDE, LONG])
@pytest.mark.parametrize("framed", [True, False])
def test_no_figure_is_cut_however_narrow_the_terminal(table: Table, width: int, framed: bool) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(replace(table.terminal(), framed=framed))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert all(f"{cell:,}" in text for row in table.rows for cell in row if type(cell) is int)
    if table is WIDE:
        assert text.count("13.4 % ± 1.5") == 3, "a figure stays beside its error"
    headers = " ".join(text.replace("┃", " ").replace("│", " ").split())
    assert all(word in headers for name in table.columns for word in name.split())


def test_columns_without_room_follow_beside_the_first() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(WIDE.terminal())
    text = console.export_text()
    assert text.count("iteration ") >= 2 and text.count("Accuracy by iteration") == 1
    assert text.index("control") < text.index("trees"), "in their order"


def test_markdown_keeps_cells_apart() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[:2] == ["| name | tokens | seconds | seen |", "| --- | ---: | ---: | ---: |"]
    assert lines[2] == "| <b>a\\|b</b> [red]c[/red] | 12,345 | 0.13 | – |"


def test_csv_has_the_numbers_in_full() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [list(TABLE.columns), [HOSTILE, "12345", "0.126", ""], ["x", "0", "1.0", "True"]]


def test_html_escapes_every_text() -> None:
    page = TABLE.html()
    assert "<b>" not in page and "&lt;b&gt;a|b&lt;/b&gt;" in page
    assert page.count("<td>") == 8 and page.count("<th>") == 4 and "<td>12,345</td>" in page


def test_records_become_columns() -> None:
    assert Table.of_records([{"a": 1, "b": None}, {"a": 2, "b": "x"}]).csv() == "a,b\n1,\n2,x\n"
    assert Table.of_records([]).rows == ()


def test_one_way_to_print_a_share() -> None:
    assert (percent(0.514), percent(None), percent(share(514, 1000))) == ("51.4 %", "–", "51.4 % ± 1.6")


def test_differences_are_in_points() -> None:
    change = Estimate(-0.014, 0.005, 100)
    assert (points(change), gain(change), gain(None)) == ("1.4 points", "-1.4 ± 0.5 (-2.8 SE)", "–")
    assert (above_or_below(change), above_or_below(Estimate(0.0, 0.0, 1))) == ("1.4 points below", "level with")


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Estimate(0.0, 0.1, 9), ""),
        (Estimate(0.1, 0.0, 1), "too few problems"),
        (Estimate(0.19, 0.1, 9), "1.9 standard errors, no more than noise"),
        (Estimate(-0.2, 0.1, 9), "2.0 standard errors, probably more than noise"),
        (Estimate(0.3, 0.0999, 9), "3.0 standard errors, clearly more than noise"),
    ],
)
def test_a_difference_is_compared_with_its_error(difference: Estimate, said: str) -> None:
    found = against_noise(difference)
    assert said in found if said else found == ""


def test_the_leader_is_named_or_it_is_level() -> None:
    accuracy = share(50, 100)
    assert (
        leader("Here ", "a", "b", accuracy, Estimate(0.0, 0.0, 100)) == "Here a and b come out level at 50.0 % ± 5.0."
    )
    ahead = leader("Here ", "a", "b", accuracy, Estimate(0.1, 0.02, 100))
    assert ahead == "Here a is best (50.0 % ± 5.0), 10.0 points above b: 5.0 standard errors, clearly more than noise."


def test_what_a_training_learned_from_names_its_adapters() -> None:
    result = {"num_examples": 3, "num_targets": 9, "num_dropped": 1, "lora_rank": 16}
    assert rows_in_words(result, "train-policy") == "3 rows, 1 more left out as too long, by adapters of rank 16"
    assert rows_in_words({"num_examples": 3, "lora_rank": None}, "train-policy") == "3 rows"
