"""What a training job does once it has its data and its parent on disk."""

from collections.abc import Callable

from restmcts.adapters.datasets import read_rows
from restmcts.domain.phases import TrainPolicyPhase
from restmcts.domain.training_settings import TrainingReport
from restmcts.modeling.checkpoints import new_value_model, save_checkpoint
from restmcts.modeling.training import PolicyExample, ValueExample, train_policy, train_value

from restmcts_trainer.job import Job


def run_job(job: Job, on_progress: Callable[[int, int, float], None] | None) -> TrainingReport | None:
    """Train into `job.output` and return the report; None if there is no data.

    Without data a policy, or a value model with a parent, stays what it is: nothing is written. A first value model is then
    written as it begins: it gives every partial solution the same value.

    Raises:
        RestMctsError: if training cannot be done.
    """
    rows = read_rows(job.dataset)
    settings = job.phase.training
    if isinstance(job.phase, TrainPolicyPhase):
        examples = [PolicyExample(row["question"], tuple(row["steps"])) for row in rows]
        return train_policy(job.parent, examples, settings, job.output, on_progress) if rows else None
    if rows:
        paths = [ValueExample(row["question"], tuple(row["steps"]), tuple(row["targets"])) for row in rows]
        return train_value(job.parent, paths, settings, job.output, on_progress)
    if job.phase.parent is None:
        save_checkpoint(new_value_model(job.parent, settings.seed), job.output)
    return None
