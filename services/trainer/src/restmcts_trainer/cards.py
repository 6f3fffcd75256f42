"""The model card of a trained checkpoint: what it is, what it was made from, and what held-out
problems say of it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restmcts.domain.runs.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase

_FACTS = (
    "num_examples",
    "num_dropped",
    "num_targets",
    "num_steps",
    "micro_batch",
    "lora_rank",
    "first_loss",
    "last_loss",
)


def write_card(
    folder: Path,
    phase: TrainPolicyPhase | TrainValuePhase,
    parent: str,
    lineage: dict[str, Any],
    result: dict[str, Any],
) -> None:
    """Write README.md into a checkpoint's folder, with the fields that the hub reads; no times,
    so that equal runs are equal.
    """
    kind = "policy" if isinstance(phase, TrainPolicyPhase) else "value model"
    pipeline = "text-generation" if kind == "policy" else "text-classification"
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline}",
        "tags: [restmcts, arxiv:2406.03816]",
        "---",
        "",
    ]
    lines += [
        f"# {phase.name}",
        "",
        f"A {kind} trained by ReST-MCTS* from `{parent}` with the objective `{phase.objective}`.",
        "",
    ]
    lines += ["## Made from", "", *_table(lineage)]
    lines += ["## Training", "", *_table({name: result[name] for name in _FACTS if result.get(name) is not None})]
    if result.get("held_out"):
        before = result["held_out_before"]
        lines += ["## On held-out problems", "", "| figure | before | after |", "|---|---|---|"]
        lines += [
            f"| {name} | {_shown(before.get(name))} | {_shown(value)} |" for name, value in result["held_out"].items()
        ]
        lines += [""]
    settings = TRAINING_PHASE.dump_python(phase, mode="json")
    lines += ["## Settings", "", "```json", json.dumps(settings, indent=2, sort_keys=True), "```", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _table(fields: Mapping[str, object]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {_shown(value)} |" for name, value in fields.items()), ""]


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
