"""Run files: a run's document as TOML."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.runs.spec_plan import HELD_OUT
from restmcts.domain.runs.spec_settings import Setting, settings_of
from restmcts.domain.text import valid_text
from restmcts.errors import InputError

SUFFIX = ".toml"
_TABLE = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")
_PLACES = ("policy", "value", "problems", "test", "probe", "promotion.value_bench")


def is_run_file(given: object) -> bool:
    """Return whether what a person gave is a run file, by its name."""
    return Path(str(given)).suffix.lower() == SUFFIX


def read_run_file(path: Path) -> list[Setting]:
    """Return the settings of a run file, each with its line.

    Files and folders that it names are looked for beside it; what is not there stays as it is
    written, as an id of the hub does.

    Raises:
        InputError: if the file is not there, or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a run file (.toml) or a file of problems") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text, so it is no run file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file: {error}") from None
    lines = dict(_lines(text))
    found = []
    for setting in settings_of(document, str(path)):
        line = lines.get(setting.name)
        where = f"{path}, line {line}" if line is not None else str(path)
        _check_texts(setting, where)
        found.append(located(Setting(setting.name, setting.value, where), path.parent))
    return found


def _check_texts(setting: Setting, where: str) -> None:
    """Refuse text that names no file and that no database takes."""
    try:
        for one in setting.value if isinstance(setting.value, list) else [setting.value]:
            valid_text(str(one), setting.name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield the dotted names that a TOML text sets, with their lines from 1."""
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _TABLE.match(line), _KEY.match(line)
        if header is not None:
            table = f"{header.group(1)}."
        elif key is not None:
            yield table + key.group(1).strip("\"'"), number


def located(setting: Setting, folder: Path) -> Setting:
    """Return a setting whose value, if it names a file or folder below `folder`, has its whole
    path.
    """
    if setting.name in _PLACES and isinstance(setting.value, str) and setting.value != HELD_OUT:
        return Setting(setting.name, _located(setting.value, folder), setting.where)
    if setting.name == "plugins" and isinstance(setting.value, list):
        return Setting(setting.name, [_located(str(one), folder) for one in setting.value], setting.where)
    return setting


def _located(given: str, folder: Path) -> str:
    place, mark, options = given.partition("?")
    path = folder / place
    return str(path.resolve()) + mark + options if place and path.exists() else given


def run_file_text(spec: RunSpec) -> str:
    """Return a run file that makes that run."""
    return tomli_w.dumps(_without_empty(written(spec)))


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in ([], {})}
