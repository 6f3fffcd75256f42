"""`selftrain` killed at random moments and started again ends as if nothing had happened."""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from restmcts.testing.forked_commands import ForkedCommand

SEED = 7
NUM_FEW = 12
TRAINING = "SELECT count(*) FROM phases WHERE state = 'training'"


def arguments(problems: Path, policy: Path, workdir: Path) -> list[object]:
    settings = {
        "--policy": policy,
        "--method": "rest-mcts-paper",
        "--workdir": workdir,
        "--temperature": 1.0,
        "--max-step-tokens": 8,
        "--budget-iterations": 6,
        "--epochs": 1,
        "--trees-in-flight": 8,
    }
    options = ["keep_rollouts=true", "max_depth=9", "roll_forward_steps=9", "stop_threshold=2.0"]
    typed = [text for pair in settings.items() for text in pair]
    return ["selftrain", problems, *typed, *(text for option in options for text in ("-o", option))]


def one(workdir: Path, query: str) -> int:
    """Return the single number that a query of the stored run gives; 0 while there is no table."""
    try:
        connection = sqlite3.connect(f"file:{workdir / 'run.db'}?mode=ro", uri=True)
        try:
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


def progress(workdir: Path) -> int:
    """Return how many answers the trees have taken."""
    return one(workdir, "SELECT count(*) FROM requests WHERE state = 'applied'")


def descendants(pid: int) -> set[int]:
    """Return the processes below one, by the kernel's list."""
    children = {
        int(child) for task in Path(f"/proc/{pid}/task").glob("*") for child in (task / "children").read_text().split()
    }
    return children.union(*(descendants(child) for child in children)) if children else set()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_at(process: ForkedCommand, moment: Callable[[], bool], delay_seconds: float) -> tuple[bool, set[int]]:
    """Kill a run a little after a moment; return whether it was still alive, and its children
    at that time.
    """
    while not moment() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_seconds)
    alive = process.poll() is None
    children = descendants(process.pid) if alive else set()
    process.kill()
    process.wait()
    return alive, children


def moments(workdir: Path, generator: random.Random) -> Iterator[Callable[[], bool]]:
    """Yield moments of a run, each told when the run before it has been killed.

    They lie in the bootstrap, in the training of V_0, twice in the search, and in the training of
    the iteration's models.
    """
    for most_answers in (20, None, 150, 150, None):
        if most_answers is None:
            yield lambda: one(workdir, TRAINING) > 0
        else:
            goal = progress(workdir) + generator.randint(1, most_answers)
            yield lambda goal=goal: progress(workdir) >= goal


def assert_whole(workdir: Path, num_problems: int) -> None:
    """Check everything that a kill could have doubled or lost."""
    collect = "SELECT id FROM phases WHERE name = 'collect-1'"
    assert one(workdir, f"SELECT count(*) FROM trees WHERE phase_id = ({collect})") == num_problems
    assert one(workdir, f"SELECT count(DISTINCT problem_id) FROM trees WHERE phase_id = ({collect})") == num_problems
    assert one(workdir, "SELECT count(*) FROM trees WHERE state <> 'labelled'") == 0
    assert one(workdir, "SELECT count(*) FROM (SELECT 1 FROM nodes GROUP BY tree_id, node_id HAVING count(*) > 1)") == 0
    stored = "(SELECT count(*) - 1 FROM nodes n WHERE n.tree_id = t.id AND n.origin <> 'solution')"
    assert one(workdir, f"SELECT count(*) FROM trees t WHERE t.nodes <> {stored}") == 0
    root_visits = "(SELECT visits FROM nodes n WHERE n.tree_id = t.id AND n.node_id = 0)"
    assert (
        one(workdir, f"SELECT count(*) FROM trees t WHERE phase_id = ({collect}) AND t.iterations <> {root_visits}")
        == 0
    )
    calls = "(SELECT count(*) FROM requests r WHERE r.tree_id = t.id AND r.state = 'applied')"
    assert one(workdir, f"SELECT count(*) FROM trees t WHERE t.model_calls <> {calls}") == 0
    assert one(workdir, "SELECT count(*) FROM phases WHERE state <> 'done'") == 0
    assert one(workdir, "SELECT count(*) FROM dead_letters") == 0


def rows_of_datasets(workdir: Path) -> Iterator[list[tuple[object, ...]]]:
    connection = sqlite3.connect(workdir / "run.db")
    for (uri,) in connection.execute("SELECT uri FROM datasets ORDER BY id").fetchall():
        folder = workdir / "artifacts" / uri.partition(":")[2]
        yield [
            (row["tree_id"], row["node_id"])
            for shard in folder.glob("*.parquet")
            for row in pq.read_table(shard).to_pylist()
        ]
    connection.close()


@pytest.fixture
def few_puzzles(puzzle_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "few.jsonl"
    path.write_text("".join(puzzle_file.read_text().splitlines(keepends=True)[:NUM_FEW]))
    return path


@pytest.mark.timeout(600)
def test_a_run_that_is_killed_again_and_again_ends_whole(
    start_with_children: Callable[..., ForkedCommand], puzzle_policy: Path, puzzle_file: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "work"
    log = tmp_path / "log"
    typed = arguments(puzzle_file, puzzle_policy, workdir)
    generator = random.Random(SEED)
    num_killed = 0
    orphans: set[int] = set()
    for moment in moments(workdir, generator):
        alive, children = kill_at(start_with_children(log, *typed), moment, generator.uniform(0.0, 0.3))
        num_killed += alive
        orphans |= children
    assert start_with_children(log, *typed).wait(timeout=200) == 0, log.read_text()
    assert num_killed >= 4, "the run was over before it could be killed often enough; make it longer"
    assert_whole(workdir, num_problems=len(puzzle_file.read_text().splitlines()) * 9 // 10)
    datasets = list(rows_of_datasets(workdir))
    assert [len(rows) == len(set(rows)) for rows in datasets] == [True] * 3
    assert all(datasets), "the policy solved nothing, so nothing was trained"
    assert not list(workdir.glob("training-*")), "half-made checkpoints were left behind"
    assert not list(workdir.glob("artifacts/*/.partial-*"))
    deadline = time.monotonic() + 10
    while any(map(lives, orphans)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in orphans if lives(pid)], "children outlived their parent"

    before = {path: path.stat().st_mtime_ns for path in (workdir / "artifacts").rglob("*")}
    counts = "SELECT (SELECT count(*) FROM requests) + 1000 * (SELECT count(*) FROM nodes)"
    known = one(workdir, counts)
    assert start_with_children(log, *typed).wait(timeout=200) == 0, log.read_text()
    assert one(workdir, counts) == known
    assert {path: path.stat().st_mtime_ns for path in (workdir / "artifacts").rglob("*")} == before
    assert os.path.exists(workdir / "report.html")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_training_at_once_and_nothing_outlives_it(
    start_with_children: Callable[..., ForkedCommand],
    puzzle_policy: Path,
    few_puzzles: Path,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    workdir = tmp_path / "work"
    typed = [*arguments(few_puzzles, puzzle_policy, workdir), "--epochs", 100_000]
    process = start_with_children(tmp_path / "log", *typed)
    while not one(workdir, TRAINING) and process.poll() is None:
        time.sleep(0.01)
    children = descendants(process.pid)
    process.send_signal(number)
    assert process.wait(timeout=60) == status, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert "interrupted · " in said if status == 130 else "terminated · " in said
    assert "what is done is kept; restmcts selftrain --workdir" in said
    assert not [pid for pid in children if lives(pid)]
    assert one(workdir, "SELECT max(attempt) FROM phases WHERE state = 'training'") == 0


@pytest.mark.parametrize(("num_kills", "status"), [(2, 0), (3, 1)])
def test_a_training_whose_process_is_killed_is_begun_again_but_not_for_ever(
    start_with_children: Callable[..., ForkedCommand],
    puzzle_policy: Path,
    few_puzzles: Path,
    tmp_path: Path,
    num_kills: int,
    status: int,
) -> None:
    workdir, log = tmp_path / "work", tmp_path / "log"
    process = start_with_children(log, *arguments(few_puzzles, puzzle_policy, workdir))
    for attempt in range(1, num_kills + 1):
        begun = f"SELECT count(*) FROM phases WHERE name = 'value-0' AND state = 'training' AND attempt = {attempt}"
        children: set[int] = set()
        while not children and process.poll() is None:
            time.sleep(0.01)
            if one(workdir, begun):
                children = {pid for pid in descendants(process.pid) if b"restmcts_trainer.child" in command_of(pid)}
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    assert process.wait(timeout=200) == status, log.read_text()
    assert one(workdir, "SELECT attempt FROM phases WHERE name = 'value-0'") == 3
    assert ("was ended by SIGKILL; is there enough memory? (attempt 3)" in log.read_text()) == (status == 1)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
