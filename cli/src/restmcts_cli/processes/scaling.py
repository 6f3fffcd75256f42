"""Run more or fewer workers, in containers or as processes, once or as the work asks for it."""

import fcntl
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer
from restmcts.errors import InputError, RestMctsError

from restmcts_cli.reports.shown_tables import print_note


def scale_workers(
    counts: Mapping[str, int], folder: Path | None, files: Sequence[Path], *, dry_run: bool = False
) -> None:
    """Run so many workers of each kind: of the stack of processes in that folder or, without one,
    of the compose stack of these files (by default the one of the current folder).

    Raises:
        InputError: if there is no such stack, or no Docker.
        RestMctsError: if they do not start.
    """
    if folder is not None:
        _scale_processes(folder, counts, dry_run)
    else:
        _scale_containers(files or [Path("docker-compose.yml")], counts, dry_run)


def _scale_processes(folder: Path, counts: Mapping[str, int], dry_run: bool) -> None:
    if dry_run:
        raise InputError("--dry-run is for the compose stack: a stack of processes is scaled by this program itself")
    from restmcts_cli.processes.stack_processes import Stack

    stack = Stack(folder)
    if not stack.members():
        raise InputError(f"{folder} contains no stack: restmcts stack up --dir {shlex.quote(str(folder))}")
    stack.up(counts)
    print_note(", ".join(f"{number} {worker}" for worker, number in counts.items()) + " run")


def _scale_containers(files: Sequence[Path], counts: Mapping[str, int], dry_run: bool) -> None:
    scales = [part for worker, number in counts.items() for part in ("--scale", f"{worker}={number}")]
    chosen = [part for path in files for part in ("--file", str(path))]
    command = [*_compose(), *chosen, "up", "--detach", "--no-deps", "--no-recreate", *scales, *counts]
    if dry_run:
        typer.echo(shlex.join(command))
        return
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing} is not here: call this where the compose file is, or name it with --file")
    if not shutil.which(command[0]):
        raise InputError("docker is not installed here; --dry-run prints the command for the machine that has it")
    print_note(shlex.join(command))
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise RestMctsError(f"{command[0]} ended with {done.returncode}; its output is above")


def _compose() -> list[str]:
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def keep_scaled(
    decide: Callable[[], dict[str, int]],
    scale: Callable[[dict[str, int]], None],
    every: float,
    looks: int | None = None,
    running: Callable[[], Mapping[str, int]] | None = None,
) -> None:
    """Scale whenever other numbers run than are decided; look every so many seconds, `looks` times
    or forever. What fails meanwhile (a database that is away, a worker that does not start) is
    tried again with the next look.

    Args:
        running: gives the numbers that were last asked for, by whomever; None: those that were
            asked for here.

    Raises:
        InputError: if there is no stack to scale, or no Docker.
    """
    asked: dict[str, int] = {}
    fault = ""
    while looks is None or looks > 0:
        try:
            wanted, known = decide(), asked if running is None else running()
            changed = {
                worker: number
                for worker, number in wanted.items()
                if {asked.get(worker), known.get(worker)} != {number}
            }
            if changed:
                print_note("autoscale: " + ", ".join(f"{worker}={number}" for worker, number in changed.items()))
                scale(changed)
                asked |= changed
            fault = ""
        except InputError:
            raise
        except (RestMctsError, OSError) as error:
            if str(error) != fault:
                fault = str(error)
                print_note(f"autoscale: {fault}; tried again every {every:g} s")
        looks = None if looks is None else looks - 1
        time.sleep(every)


def asked_for(folder: Path) -> dict[str, int]:
    """Return how many workers of each kind were last asked for in the stack of a folder."""
    from restmcts_cli.processes.stack_processes import Stack

    return Stack(folder).scale


@contextmanager
def alone_in(folder: Path, workers: Iterable[str]) -> Iterator[None]:
    """Keep other programs from autoscaling these workers of the stack of a folder.

    Raises:
        InputError: if there is no such folder, or another program does so.
    """
    with ExitStack() as locks:
        for worker in workers:
            try:
                lock = locks.enter_context((folder / f"autoscale-{worker}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{worker} of {folder} is autoscaled by another program: end that one") from error
            except OSError as error:
                raise InputError(f"{folder} contains no stack that can be scaled: {error.strerror}") from error
        yield
