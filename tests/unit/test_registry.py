"""Tables of named entries: what may be registered, what an unknown name is answered with, and
where entries are said to come from.
"""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from restmcts import registry
from restmcts.errors import InputError, RestMctsError
from restmcts.registry import Registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return what makes modules of given source importable, and names each by an entry point."""
    found: list[EntryPoint] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_REGISTRIES", {})
    monkeypatch.setattr(registry, "_all_entry_points", lambda: tuple(found))
    registry._distributions.cache_clear()
    before = set(sys.modules)

    def install(name: str, module: str, source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        found.append(EntryPoint(name, module, registry.GROUP))

    yield install
    registry._distributions.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def words(install: Install) -> Registry[str]:
    """Return a table with two entries that this module registers."""
    table: Registry[str] = Registry("words", "word")
    table.add("second", "2")
    table.add("first", "1")
    return table


def test_entries_come_by_name_whatever_was_registered_first(words: Registry[str]) -> None:
    assert words.get("second") == "2"
    assert words.name_of(words.get("first")) == "first"
    assert list(words) == ["first", "second"]
    assert "third" not in words


def test_a_decorator_registers_and_gives_back_what_it_decorates(install: Install) -> None:
    functions: Registry[Callable[[], int]] = Registry("functions", "function")

    @functions.register("seven")
    def seven() -> int:
        return 7

    assert seven() == functions.get("seven")() == 7


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others(words: Registry[str]) -> None:
    with pytest.raises(InputError) as caught:
        words.get("secnd")
    assert str(caught.value) == "no word is called 'secnd'; did you mean 'second'? There are: first, second"
    with pytest.raises(InputError, match=r"no word is called 'xyz'\. There are: first, second"):
        words.get("xyz")


def test_a_name_is_registered_by_one_module_only(words: Registry[str], install: Install) -> None:
    install(
        "words.more", "more_words", "from restmcts import registry\nregistry._REGISTRIES['words'].add('first', '3')"
    )
    words.add("first", "one")  # a module that is loaded again replaces its own
    with pytest.raises(InputError, match=r"a word called 'first' exists already, from .*test_registry.py"):
        registry.fill_tables_of(__name__)


def test_entry_points_fill_their_table_when_it_is_first_asked(install: Install) -> None:
    words: Registry[str] = Registry("words", "word")
    source = "from restmcts import registry\nregistry._REGISTRIES['words'].add({!r}, '1')"
    install("words", "own_words", source.format("own"))
    install("words.theirs", "their_words", source.format("theirs"))
    install("wordsmiths", "other_words", "raise AssertionError('of another table')")
    assert "own_words" not in sys.modules
    assert words.names() == ("own", "theirs")


def test_an_entry_point_that_breaks_is_named_with_its_package(install: Install) -> None:
    words: Registry[str] = Registry("words", "word")
    install("words.broken", "broken_words", "import nothing_of_that_name")
    with pytest.raises(RestMctsError, match=r"broken_words: its entry point 'words.broken' cannot be loaded \(Module"):
        words.names()


def test_a_table_without_entries_says_how_to_install(install: Install) -> None:
    with pytest.raises(RestMctsError, match=r"no word is installed.*make setup"):
        Registry("words", "word").names()
