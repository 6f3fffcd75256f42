"""What a training job does once it has its data and its parent on disk."""

from typing import Any

from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.domain.learning.losses import SupervisedLoss
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingReport, gives_values
from restmcts.modeling.checkpoints import ValueScale, new_value_model, save_checkpoint
from restmcts.modeling.training.path_training import PathExample
from restmcts.modeling.training.training import train_paths, train_policy, train_preferences, train_value
from restmcts.modeling.training.training_loop import Attempt
from restmcts.modeling.training.training_rows import PolicyExample, PreferenceExample, ValueExample

from restmcts_trainer.job import Job


def run_job(job: Job, attempt: Attempt) -> TrainingReport | None:
    """Train into `job.output` and return the report; None if there is no data.

    Without data a policy, or a value model with a parent, stays what it is: nothing is written. A
    first value model is then written as it begins: it gives every partial solution the same value.

    Raises:
        RestMctsError: if training cannot be done.
    """
    rows = read_rows(job.dataset)
    phase, settings = job.phase, job.phase.training
    if isinstance(phase, TrainPolicyPhase):
        if not rows:
            return None
        if phase.objective == "dpo":
            return train_preferences(job.parent, [_preference(row) for row in rows], settings, job.output, attempt)
        if not isinstance(phase.learner.loss, SupervisedLoss):
            paths = [_path(row) for row in rows]
            return train_paths(job.parent, paths, phase.learner.loss, settings, job.output, attempt)
        solutions = [PolicyExample(row["question"], tuple(row["steps"])) for row in rows]
        return train_policy(job.parent, solutions, settings, job.output, attempt)
    if rows:
        valued = [ValueExample.of_row(row) for row in rows]
        return train_value(job.parent, valued, settings, job.output, attempt, objective=phase.objective)
    if phase.parent is None:
        scale: ValueScale = "identity" if gives_values(phase.objective) else "logit"
        save_checkpoint(new_value_model(job.parent, settings.seed, value_scale=scale), job.output)
    return None


def _preference(row: dict[str, Any]) -> PreferenceExample:
    return PreferenceExample(
        question=row["question"],
        steps=tuple(row["steps"]),
        chosen=tuple(row["chosen"]),
        rejected=tuple(row["rejected"]),
        chosen_finished=row["chosen_finished"],
        rejected_finished=row["rejected_finished"],
    )


def _path(row: dict[str, Any]) -> PathExample:
    return PathExample(row["question"], tuple(row["steps"]), tuple(row["weights"]), row["finished"])
