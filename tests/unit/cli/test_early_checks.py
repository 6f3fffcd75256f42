"""What cannot be used by its name, its files or an option is refused before any model is loaded
and before the hub is asked: the libraries of both are not even imported.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.errors import InputError
from restmcts_cli.reward_models.results import check_threshold_split

LOADS_OR_ASKS = ("datasets", "huggingface_hub", "torch", "transformers")
NO_MODEL = "no/such/model: no such folder, and no id of the hub"
COMMANDS = {
    "prm bench no/such/model --on processbench": NO_MODEL,
    "prm bench someone/prm?format=none --on processbench": "'none'",
    "prm bench policy --on processbench": "policy",
    "prm bench someone/prm --on processbench --choose-on algebra": "has no split 'algebra'; it has gsm8k, math",
    "prm bench someone/prm --on steps.jsonl --choose-on algebra": "has no split 'algebra'; it has",
    "prm bench someone/prm --on steps.jsonl --threshold 0.5 --out kept": "values of another model or of other solutions",
    "prm bench someone/prm --on nothing.jsonl": "nothing.jsonl is no file, folder or benchmark; as the name of a run",
    "prm bench value-1 --on processbench --checkpoint-of first --workdir .": "contains no run.db",
    "prm calibrate no/such/model --on first --out out": NO_MODEL,
    "prm doctor no/such/model --problems hub:someone/problems": NO_MODEL,
    "prm train . out --trunk no/such/model": NO_MODEL,
    "datasets consensus . out --judge no/such/model": NO_MODEL,
    "selftrain hub:someone/problems --policy no/such/model --workdir work": NO_MODEL,
    "selftrain hub:someone/problems --policy someone/model --value no/such/model --workdir work": NO_MODEL,
    "selftrain hub:someone/problems --policy values --workdir work --dry-run": "a value model where a policy model",
    "runs create first hub:someone/problems --policy no/such/model --workdir work": NO_MODEL,
    "probe hub:someone/problems --policy no/such/model": NO_MODEL,
    "compare hub:someone/problems --policy no/such/model --test hub:someone/tests --budget-tokens 90": NO_MODEL,
    "evaluate gsm8k --policy no/such/model --out out": NO_MODEL,
    "evaluate gsm8k --policy someone/model --value orm=no/such/model --out out": NO_MODEL,
    "evaluate gsm8k --policy someone/model --value a --value b --out out": "the name 'value' is used already",
    "evaluate gsm8k --policy someone/model --methods gredy --out out": "no answering method is called 'gredy'",
}


def a_model(folder: Path, architecture: str) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "llama"}))


@pytest.mark.parametrize("typed", COMMANDS)
def test_it_is_refused_before_a_model_is_loaded_or_the_hub_is_asked(
    until_import: Callable[..., Any], typed: str, tmp_path: Path
) -> None:
    a_model(tmp_path / "policy", "LlamaForCausalLM")
    a_model(tmp_path / "values", "LlamaForSequenceClassification")
    solution = {"problem": "1 + 1?", "steps": ["One.", "Three."], "label": 1}
    (tmp_path / "steps.jsonl").write_text(json.dumps(solution) + "\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "values.jsonl").write_text('{"model": "another", "solutions": "others"}\n')
    known = sorted(tmp_path.rglob("*"))
    done = until_import(LOADS_OR_ASKS, typed)
    assert not done.imported, done.lines
    (error,) = [line for line in done.lines if line.startswith("error: ")]
    assert COMMANDS[typed] in error
    assert (done.exit_code, done.out) == (2, "")
    assert sorted(tmp_path.rglob("*")) == known


def test_names_that_can_be_used_pass_on_to_the_hub(until_import: Callable[..., Any]) -> None:
    assert until_import(LOADS_OR_ASKS, "prm bench someone/prm --on processbench").imported


def test_a_threshold_needs_solutions_that_say_their_first_wrong_step() -> None:
    unknown = LabelledSolution("1", "train", "1 + 1?", ("One.",), (None,), None)
    with pytest.raises(InputError, match=r"no solution of train says its first wrong step; give --threshold"):
        check_threshold_split("steps.jsonl", [unknown], None)
    check_threshold_split("steps.jsonl", [unknown, replace(unknown, first_error=0)], None)
