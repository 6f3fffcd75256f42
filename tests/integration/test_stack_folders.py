"""What a stack keeps outside its folder belongs to that folder, and to no other of its name."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from restmcts.errors import RestMctsError
from restmcts_cli.processes import server_processes
from restmcts_cli.processes.stack_processes import Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
Begin = Callable[[Path], Stack]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start PostgreSQL of a stack's folder; stop all, and remove what is outside, in the end."""
    stacks: list[Stack] = []
    places: set[Path] = set()

    def start(folder: Path) -> Stack:
        stack = Stack(folder, {})
        stacks.append(stack)
        with stack.locked():
            stack.start_server("postgres")
        places.add(place_of(folder))
        return stack

    yield start
    for stack in reversed(stacks):  # of two of one folder, the later one is the parent of what runs
        stack.down()
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that other users cannot enter."""
    (tmp_path / "closed").mkdir(mode=0o700)
    return tmp_path / "closed"


def place_of(folder: Path) -> Path:
    return Path((folder / "postgres" / "place").read_text().strip())


def query(stack: Stack, statement: str) -> list[tuple[object, ...]]:
    url = stack.settings["RESTMCTS_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_folder_that_is_made_again_begins_with_a_database_of_its_own(closed: Path, begin: Begin) -> None:
    folder = closed / "stack"
    first = begin(folder)
    query(first, "CREATE TABLE mine (id int)")
    before = place_of(folder)
    first.down()
    same = begin(folder)
    assert query(same, "SELECT count(*) FROM mine") == [(0,)], "stopped and started, it is the same"
    same.down()
    shutil.rmtree(folder)
    again = begin(folder)
    assert query(again, "SELECT to_regclass('mine')") == [(None,)]
    assert place_of(folder) != before and (before / "data").is_dir(), "nothing of the old one is lost"


def test_a_folder_that_is_moved_finds_its_database(closed: Path, begin: Begin) -> None:
    first = begin(closed / "stack")
    query(first, "CREATE TABLE mine (id int)")
    first.down()
    (closed / "stack").rename(closed / "moved")
    assert query(begin(closed / "moved"), "SELECT count(*) FROM mine") == [(0,)]


def test_a_database_that_is_gone_is_named_and_not_made_anew(closed: Path, begin: Begin) -> None:
    folder = closed / "stack"
    stack = begin(folder)
    place = place_of(folder)
    stack.down()
    place.rename(place.with_name(f"{place.name}-away"))
    try:
        again = Stack(folder, {})
        with pytest.raises(RestMctsError, match=f"were in {place}, which is gone: restore it"), again.locked():
            again.start_server("postgres")
    finally:
        place.with_name(f"{place.name}-away").rename(place)
    assert query(begin(folder), "SELECT 1") == [(1,)]


def test_the_database_of_an_earlier_version_is_found_where_that_put_it(closed: Path, begin: Begin) -> None:
    folder = closed / "stack"
    stack = begin(folder)
    query(stack, "CREATE TABLE mine (id int)")
    stack.down()
    name = server_processes.sha256(str(folder / "postgres").encode()).hexdigest()[:12]
    before = place_of(folder).rename(place_of(folder).with_name(f"restmcts-{name}"))
    shutil.rmtree(folder / "postgres")
    assert query(begin(folder), "SELECT count(*) FROM mine") == [(0,)]
    assert place_of(folder) == before


def test_programs_that_have_changed_are_copied_again(tmp_path: Path) -> None:
    programs, place = tmp_path / "install" / "bin", tmp_path / "place"
    programs.mkdir(parents=True)
    (programs / "postgres").write_text("first")
    first = server_processes._copied_programs(programs, place)
    assert server_processes._copied_programs(programs, place) == first
    (programs / "postgres").write_text("second")
    os.utime(programs / "postgres", ns=(1, 1))
    assert (server_processes._copied_programs(programs, place) / "postgres").read_text() == "second"
    assert (first / "postgres").read_text() == "first"
