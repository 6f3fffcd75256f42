"""`probe` with a model that writes."""

import json
from pathlib import Path

from restmcts_cli.main import app
from typer.testing import CliRunner


def test_a_probe_is_kept_shown_again_and_not_mistaken_for_another(tmp_path: Path) -> None:
    """The puzzle's untrained policy solves nothing, and takes no time."""
    problems = ("demo:number-paths:6-8:4", "--policy", "number-paths", "--workdir", str(tmp_path / "out"))
    lengths = ("--max-step-tokens", "8", "--max-solution-tokens", "24", "--set", "models.num_threads=1")
    options = ["probe", *problems, *lengths, "--samples", "2", "--json"]
    first = CliRunner().invoke(app, options)
    assert first.exit_code == 0, first.exception
    found = json.loads(first.stdout.splitlines()[-1])
    assert [band["num_problems"] for band in found["bands"]] == [4, 0, 0]
    assert found["budget_tokens"] == round(found["sample_tokens"]) > 0
    assert found["search_tokens"] > 0
    assert "no method has much to learn from" in first.stderr

    again = CliRunner().invoke(app, options)
    assert json.loads(again.stdout.splitlines()[-1]) == found
    for other in (["--samples", "3"], ["-o", "num_alternatives=2"]):
        refused = str(CliRunner().invoke(app, [*options, *other]).exception)
        assert "choose another --workdir" in refused, refused
