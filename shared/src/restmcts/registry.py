"""Open tables: named entries that this project, an installed distribution, or a user's own file
add to.

A table is filled when it is first asked: every module that the entry-point group `restmcts` names
under the table's name is imported, and registers its entries as it is imported. This project's own
modules are named in the same way (`shared/pyproject.toml`). An entry point is called as the table,
or as the table and a name of its own behind a dot (`searches`, `searches.lookahead`), so that a
process imports only what it asks for: a search worker needs no torch.

Modules must not ask a table while they are imported: entries that come later would be missed.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from restmcts.errors import InputError, RestMctsError, UnknownEntryError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "restmcts"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What is registered under a name.

    Attributes:
        name: unique in its table.
        value: what was registered.
        module: the module that registered it.
        file: the file of that module.
    """

    name: str
    value: T
    module: str
    file: str

    @property
    def origin(self) -> str:
        """Where the entry comes from: the name of a distribution, or else the path of a file."""
        return _distributions().get(self.module.partition(".")[0], self.file)


class Registry(Generic[T]):
    """A table of named entries of one kind."""

    def __init__(self, table: str, noun: str) -> None:
        """Make an empty table.

        Args:
            table: the name under which entry points fill it.
            noun: what one entry is, for messages ("search").
        """
        self.table = table
        self.noun = noun
        self._entries: dict[str, Entry[T]] = {}
        self._is_filled = False
        _REGISTRIES[table] = self

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class or a function under a name.

        Raises:
            InputError: when it is applied, if another module has registered that name.
        """
        module, file = _caller()

        def registering(value: T) -> T:
            self._put(Entry(name, value, module, file))
            return value

        return registering

    def add(self, name: str, value: T) -> T:
        """Register a value under a name, and return the value.

        Raises:
            InputError: if another module has registered that name.
        """
        self._put(Entry(name, value, *_caller()))
        return value

    def _put(self, entry: Entry[T]) -> None:
        known = self._entries.get(entry.name)
        if known is not None and (known.module, known.file) != (entry.module, entry.file):
            raise InputError(
                f"a {self.noun} called {entry.name!r} exists already, from {known.origin}; choose another name"
            )
        self._entries[entry.name] = entry

    def get(self, name: str) -> T:
        """Return the entry of that name, in which an underscore may be written for a dash.

        Raises:
            UnknownEntryError: if there is none; it names the nearest one and all others.
        """
        for written in (name, name.replace("_", "-")):
            if written in self:
                return self._entries[written].value
        raise UnknownEntryError(self._unknown(name))

    def name_of(self, value: T) -> str:
        """Return the name under which a value was registered.

        Raises:
            InputError: if it was not.
        """
        for entry in self._entries.values():
            if entry.value is value:
                return entry.name
        raise InputError(f"{value!r} is not registered as a {self.noun}")

    def _unknown(self, name: str) -> str:
        nearest = get_close_matches(name, self.names(), n=1, cutoff=0.5)
        meant = f"; did you mean {nearest[0]!r}?" if nearest else "."
        return f"no {self.noun} is called {name!r}{meant} There are: {', '.join(self.names())}"

    def has_entries_of(self, module: str) -> bool:
        """Return whether a module has registered an entry here."""
        return any(entry.module == module for entry in self._entries.values())

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries, sorted."""
        return tuple(self._filled())

    def values(self) -> tuple[T, ...]:
        """Return what is registered, by name."""
        return tuple(entry.value for entry in self._filled().values())

    def entries(self) -> tuple[Entry[T], ...]:
        """Return all entries, by name."""
        return tuple(self._filled().values())

    def __contains__(self, name: object) -> bool:
        # What is registered already needs no look at what else is installed.
        return name in self._entries or name in self._filled()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _filled(self) -> dict[str, Entry[T]]:
        """Return the entries once the entry points of the table are loaded.

        Raises:
            RestMctsError: if one cannot be loaded, or there is none at all.
        """
        if not self._is_filled:
            for entry_point in _entry_points(self.table):
                _load(entry_point)
            if not self._entries:
                raise RestMctsError(
                    f"no {self.noun} is installed: the installed package restmcts is not the one whose code runs; "
                    "install it again (in a checkout: `touch shared/pyproject.toml && make setup`)"
                )
            # Set last: a second thread that asks meanwhile loads too, which changes nothing.
            self._is_filled = True
        return dict(sorted(self._entries.items()))


_REGISTRIES: dict[str, Registry[Any]] = {}


def registries() -> tuple[Registry[Any], ...]:
    """Return all tables, those of modules that no one has imported included.

    Raises:
        RestMctsError: if an entry point cannot be loaded.
    """
    for entry_point in _all_entry_points():
        _load(entry_point)
    return tuple(_REGISTRIES[table] for table in sorted(_REGISTRIES))


def fill_tables_of(module: str) -> None:
    """Load all entries of the tables that a module has registered something in.

    Raises:
        InputError: if one of its names is another entry's.
    """
    for table in _REGISTRIES.values():
        if table.has_entries_of(module):
            table.names()


def _entry_points(table: str) -> "list[EntryPoint]":
    return [each for each in _all_entry_points() if each.name.partition(".")[0] == table]


@cache
def _all_entry_points() -> "tuple[EntryPoint, ...]":
    """Return those of the group, this project's own first, then by name."""
    # Imported here: it takes longer than all else that the command line needs of this module.
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP)
    return tuple(sorted(found, key=lambda each: ("." in each.name, each.name, each.value)))


def _load(entry_point: "EntryPoint") -> None:
    try:
        entry_point.load()
    except RestMctsError:
        raise
    except Exception as error:
        source = entry_point.dist.name if entry_point.dist is not None else entry_point.value
        raise RestMctsError(
            f"{source}: its entry point {entry_point.name!r} cannot be loaded "
            f"({type(error).__name__}: {error}); repair that package, or uninstall it"
        ) from error


@cache
def _distributions() -> dict[str, str]:
    """Return the names of the distributions that fill tables, by their packages."""
    return {each.module.partition(".")[0]: each.dist.name for each in _all_entry_points() if each.dist is not None}


def _caller() -> tuple[str, str]:
    """Return the name and the file of the module that called the function that calls this."""
    names = sys._getframe(2).f_globals
    return str(names.get("__name__", "")), str(names.get("__file__", ""))
