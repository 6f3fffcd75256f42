"""The calibration that is beside a model's weights, for models of every format."""

import json
from dataclasses import asdict
from pathlib import Path

from restmcts.domain.scoring import Calibration
from restmcts.errors import ModelError, StorageError

CALIBRATION_FILE = "calibration.json"
_FIELDS = ("temperature", "bias")


def read_calibration(folder: str | Path) -> Calibration | None:
    """Return the calibration of a model's folder; None where it has none.

    Raises:
        ModelError: if it cannot be read.
    """
    file = Path(folder) / CALIBRATION_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Calibration(*(float(found[name]) for name in _FIELDS))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{file}: not readable ({error}); restore the file, or remove it for values as they were"
        ) from error


def write_calibration(folder: Path, calibration: Calibration, facts: dict[str, object]) -> None:
    """Write a calibration into a model's folder, with what it was fitted on.

    Raises:
        StorageError: if the disk does not take it.
    """
    file = folder / CALIBRATION_FILE
    try:
        file.write_text(json.dumps({**asdict(calibration), **facts}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or error}; free some space") from error
