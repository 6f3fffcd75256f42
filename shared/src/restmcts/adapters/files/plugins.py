"""Plugin files: Python files of one's own that add entries to the tables of restmcts.registry, in
this process.

A file is imported once, whatever it is named by, under a module name of its own.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restmcts.errors import InputError, RestMctsError
from restmcts.registry import fill_tables_of


@dataclass(frozen=True, slots=True)
class Plugin:
    """An imported plugin file.

    Attributes:
        path: absolute.
        sha256: of its bytes as they were imported, in hexadecimal digits.
    """

    path: Path
    sha256: str


_LOADED: dict[Path, Plugin] = {}


def load_plugins(paths: Sequence[Path]) -> None:
    """Import plugin files, each once.

    Raises:
        InputError: if one is not there, cannot be imported, or registers a name that is there
            already.
    """
    for path in paths:
        if path.resolve() not in _LOADED:
            _LOADED[path.resolve()] = _imported(path)


def load_same_plugins(digests: Mapping[str, str]) -> None:
    """Import the plugin files of another process, as they were there.

    Args:
        digests: by path.

    Raises:
        InputError: if one has changed since, or cannot be imported.
    """
    load_plugins([Path(path) for path in digests])
    for path, sha256 in digests.items():
        found = _LOADED[Path(path).resolve()].sha256
        if found != sha256:
            raise InputError(
                f"plugin {path} was changed while it was in use (sha256 {sha256[:12]}…, now {found[:12]}…); "
                "give it back as it was"
            )


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of this process, in the order in which they were imported."""
    return tuple(_LOADED.values())


def plugin_digests() -> dict[str, str]:
    """Return the digests of the plugins of this process, by the names of their files."""
    return {plugin.path.name: plugin.sha256 for plugin in _LOADED.values()}


def _imported(path: Path) -> Plugin:
    if any(path.name == known.name for known in _LOADED):
        raise InputError(f"plugin {path}: another plugin has the same file name; rename one of the two")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"plugin {path} cannot be read: {error.strerror or error}") from None
    digest = hashlib.sha256(source).hexdigest()
    name = f"restmcts_plugin_{path.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path.resolve()))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path.resolve())
    # Classes look their module up here while they are made.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
        fill_tables_of(name)
    except RestMctsError as error:
        del sys.modules[name]
        raise InputError(f"plugin {path}: {error}") from error
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"plugin {path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    return Plugin(path.resolve(), digest)


def _line(error: Exception, path: Path) -> str:
    """Return the line of the file at which it failed."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None and not isinstance(error, SyntaxError):
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line is not None else ""
