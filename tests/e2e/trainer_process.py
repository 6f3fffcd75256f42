"""A trainer on a folder: `trainer_process.py FOLDER PHASE_ID...` takes one phase after the other up
when it is free, tells its steps, ends with the last.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import ServiceContext, ServiceSettings
from restmcts.messages.commands import TrainPolicy
from restmcts_trainer.handlers import TrainerHandlers


def main(folder: Path, phase_ids: Sequence[int]) -> None:
    database = Database(f"sqlite:///{folder / 'run.db'}")
    artifacts = FolderArtifactStore(folder / "artifacts")
    settings = ServiceSettings(folder / "work", job_lease_seconds=1.0, training_threads=1)
    context = ServiceContext(
        database, artifacts, settings, on_training_step=lambda _, step, *__: print(step, flush=True)
    )
    trainer = TrainerHandlers(context)
    print("ready", flush=True)
    for phase_id in phase_ids:
        while is_to_be_trained(database, phase_id):
            trainer.train(TrainPolicy(phase_id=phase_id))
            time.sleep(0.1)
    trainer.close()


def is_to_be_trained(database: Database, phase_id: int) -> bool:
    with database.transaction() as transaction:
        row = runs.phase_by_id(transaction, phase_id)
    assert row is not None
    return row.state == PhaseState.TRAINING


if __name__ == "__main__":
    main(Path(sys.argv[1]), [*map(int, sys.argv[2:])])
