"""What a model folder shows of itself without its weights being read: its configuration, and the
names of its weights.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from restmcts.errors import ModelError

_INFO_FILE = "restmcts.json"


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model's files.

    Attributes:
        path: of the folder.
        given: how a person named the model; the hub's id says what a folder's files may not.
    """

    path: Path
    given: str = ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """What `config.json` says.

        Raises:
            ModelError: if it is missing or broken.
        """
        return _json(self.path / "config.json")

    @property
    def architectures(self) -> tuple[str, ...]:
        """The names of the library's classes for the model."""
        return tuple(str(each) for each in self.config.get("architectures") or ())

    @property
    def num_labels(self) -> int:
        """How many classes a classifier has; 2 is what configurations do not say."""
        return len(self.config.get("id2label") or (0, 1))

    @property
    def names(self) -> str:
        """All that the model is called, in lower case."""
        return f"{self.given} {self.path.name} {self.config.get('_name_or_path', '')}".lower()

    @property
    def own_kind(self) -> str:
        """The kind of a checkpoint that was saved here, "" for any other."""
        info = self.path / _INFO_FILE
        return str(_json(info).get("kind")) if info.is_file() else ""

    @cached_property
    def weights(self) -> dict[str, Path]:
        """In which safetensors file each weight is, from the files' headers.

        Raises:
            ModelError: if one of them is broken.
        """
        return {name: file for file in sorted(self.path.glob("*.safetensors")) for name in _names_of_weights(file)}

    @property
    def state_dict(self) -> Path | None:
        """The folder's one file of pickled weights; None if there is none or more than one."""
        files = [file for pattern in ("*.pt", "*.pth", "pytorch_model.bin") for file in self.path.glob(pattern)]
        return files[0] if len(files) == 1 else None

    def is_classifier_of(self, what: str) -> bool:
        """Return whether an architecture is one of the library's `…For{what}Classification`."""
        return any(each.endswith(f"For{what}Classification") for each in self.architectures)


def _names_of_weights(file: Path) -> Iterator[str]:
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file}: not readable ({error}); fetch it again") from error
    yield from header


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent}: no model folder ({path.name} is missing or broken)") from error
    return found if isinstance(found, dict) else {}
