"""Training data of value models in a folder, as people name it."""

from pathlib import Path
from typing import Any

from restmcts.errors import InputError


def stored_value_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder of a value model's data.

    Raises:
        InputError: if it has none, they are another kind's, or they cannot be read.
    """
    from pyarrow import ArrowException
    from restmcts.adapters.files.dataset_shards import read_rows

    try:
        rows = read_rows(folder)
    except (ArrowException, OSError) as error:
        raise InputError(f"{folder}: its data cannot be read ({error}); make them anew") from error
    if not rows:
        raise InputError(f"{folder} has no training data; `restmcts datasets import` makes some")
    if "targets" not in rows[0]:
        raise InputError(f"{folder} has data of a policy, not of a value model; name another folder")
    return rows
