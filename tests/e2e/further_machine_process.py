"""A further machine of a trainer, with a folder for a bucket: `further_machine_process.py PORT
FOLDER WORKSPACE NUM_PROCESSES`.
"""

import signal
import sys
from pathlib import Path

from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.training_machines import TrainingMachines
from restmcts_trainer.further_machine import FurtherMachine

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port, folder, workspace, num_processes = sys.argv[1:]
    first = TrainingMachines(2, 2, "127.0.0.1", int(port))
    FurtherMachine(first, FolderArtifactStore(Path(folder)), Path(workspace), int(num_processes)).serve()
