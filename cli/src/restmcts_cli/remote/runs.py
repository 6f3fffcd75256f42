"""Runs over HTTP: shown, watched, steered and written as run files."""

import time
from dataclasses import asdict
from shlex import quote
from typing import Literal

from restmcts.adapters.files.run_files import run_file_text
from restmcts.adapters.sql.rows import JsonObject, ListedRun
from restmcts.adapters.sql.state import token_budget
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import stored_spec_of
from restmcts.errors import InputError, RestMctsError, StorageError
from restmcts.reporting.plain_text import plain
from restmcts.usecases.requested.answers import ExtendedDocument, RunDocument, StateDocument, TagsDocument

from restmcts_cli.arguments.connection import MAX_NAMED
from restmcts_cli.remote.client import Api
from restmcts_cli.reports.shown_tables import print_fields, print_json, print_note
from restmcts_cli.reports.terminal.phase_table import phase_documents, print_phases

SECONDS_BETWEEN_LOOKS = 2.0
ENDED = ("done", "failed", "cancelled")
_SHOWN_OTHERWISE = ("phases", "promoted", "blocked", "mark", "tokens_spent", "max_tokens", "error")
Steering = Literal["pause", "resume", "cancel"]


def listed(api: Api) -> list[ListedRun]:
    """Return the runs of the project, the newest first."""
    return api.get(list[ListedRun], "runs")


def only_run(api: Api) -> str:
    """Return the name of the only run of the project.

    Raises:
        InputError: if there are several, naming them, or none.
    """
    names = [row.name for row in listed(api)]
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError("the project has no runs yet: restmcts runs create NAME")
    raise InputError(f"name one of the {len(names)} runs: {', '.join(names[:MAX_NAMED])}")


def show(api: Api, name: str | None, json: bool) -> None:
    """Print a run: what it is and has come to, and its phases with their numbers."""
    _print(api.get(RunDocument, "runs", name or only_run(api)), json)


def _print(run: RunDocument, json: bool) -> None:
    if json:
        print_json({**asdict(run), "phases": phase_documents(run.phases)})
        return
    budget = f"{run.tokens_spent or 0:,} of {run.max_tokens:,} spent" if run.max_tokens is not None else None
    blocked = {f"blocked ({number})": block.reason for number, block in enumerate(run.blocked, 1)}
    print_fields(
        {
            **{name: value for name, value in asdict(run).items() if name not in _SHOWN_OTHERWISE},
            "token_budget": budget,
            **(blocked or {"reason": run.error}),
            "promoted": ", ".join(run.promoted.values()) or None,
        }
    )
    print_phases(run.phases, run.mark)


def watch(api: Api, name: str | None, json: bool) -> None:
    """Say when the phases of a run change, until it has ended; then show it. Ctrl-C ends the
    watching, not the run.

    Raises:
        RestMctsError: if the run failed, or was cancelled.
    """
    name = name or only_run(api)
    run = api.get(RunDocument, "runs", name)
    seen: dict[str, str] = {}
    shown_reason = None
    try:
        while run.state not in ENDED:
            for phase in run.phases:
                if seen.get(phase.name, "pending") != phase.state:
                    print_note(f"{phase.name}: {phase.state}")
                seen[phase.name] = phase.state
            if run.state in ("paused", "blocked") and run.error and run.error != shown_reason:
                print_note(f"run {name} is {run.state}: {plain(run.error)}{_how_it_goes_on(run)}")
                shown_reason = run.error
            time.sleep(SECONDS_BETWEEN_LOOKS)
            run = _once_there(api, name)
    except KeyboardInterrupt:
        print_note(f"run {name} is {run.state}, and is no longer watched")
    _print(run, json)
    if run.state in ("failed", "cancelled"):
        raise RestMctsError(f"run {name} {f'failed: {run.error}' if run.state == 'failed' else 'was cancelled'}")


def _how_it_goes_on(run: RunDocument) -> str:
    if run.state != "paused":
        return "; it continues by itself once that is available"
    larger = " --max-tokens LARGER" if token_budget.is_spent(run.error) else ""
    return f"; to go on: restmcts runs resume {quote(run.run)}{larger}"


def _once_there(api: Api, name: str) -> RunDocument:
    """Return the run; while the API does not answer, say so once and ask again."""
    is_noted = False
    while True:
        try:
            run = api.get(RunDocument, "runs", name)
        except StorageError as error:
            if not is_noted:
                print_note(f"{plain(str(error))}; the run is watched again once it does")
            is_noted = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        if is_noted:
            print_note(f"{api.place} answers again")
        return run


def steer(api: Api, name: str, how: Steering, json: bool, max_tokens: int | None = None) -> None:
    """Pause, resume or cancel a run, and print its state then."""
    body = {"max_tokens": max_tokens} if how == "resume" else None
    found = api.post(StateDocument, "runs", name, how, body=body)
    if json:
        print_json(found)
    else:
        print_note(f"run {name} is {found.state}")


def extend(api: Api, name: str, iterations: int, max_tokens: int | None) -> list[str]:
    """Give a run more iterations; return the phases that were added."""
    body = {"iterations": iterations, "max_tokens": max_tokens}
    return api.post(ExtendedDocument, "runs", name, "extend", body=body).phases


def tag(api: Api, name: str, tags: list[str], *, removed: bool) -> list[str]:
    """Give a run tags, or take them away; return those that it has then."""
    return api.post(TagsDocument, "runs", name, "tags", body={"tags": tags, "remove": removed}).tags


def spec_of_run(api: Api, name: str) -> RunSpec:
    """Return the document of a run.

    Raises:
        InputError: if the run has none.
    """
    return stored_spec_of(api.get(JsonObject, "runs", name, "spec"))


def run_file(api: Api, name: str | None) -> str:
    """Return a run as a run file (TOML) that makes the same run again."""
    return run_file_text(spec_of_run(api, name or only_run(api)))
