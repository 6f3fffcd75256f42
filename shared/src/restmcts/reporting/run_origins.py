"""Where a run comes from, in words: its settings, the changed ones first, its commands, versions,
machines and times. Nothing that must not be shown is in them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from shlex import quote
from typing import Any, Protocol

from restmcts.domain.provenance import HIDDEN, is_secret, without_secrets
from restmcts.domain.runs.spec import EvaluationSpec, flattened
from restmcts.domain.runs.spec_settings import changed_settings, search_defaults
from restmcts.domain.search.settings import ALGORITHM
from restmcts.domain.text import counted
from restmcts.reporting.tables import Table

NOT_RECORDED = "not recorded (the run is of an earlier version)"
NONE, EMPTY = "none", "(empty)"
DIGEST_DIGITS = 12
_GIB = 2**30


class StoredRun(Protocol):
    """A run, as far as it is read here."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What is stored of it to know it by."""

    @property
    def provenance(self) -> Sequence[Mapping[str, Any]] | None:
        """What restmcts.domain.provenance recorded; None: nothing."""

    @property
    def created_at(self) -> datetime:
        """When it was stored."""

    @property
    def finished_at(self) -> datetime | None:
        """When it ended; None: it has not."""


@dataclass(frozen=True)
class RunOrigin:
    """Where a run comes from.

    Attributes:
        started: when its first phase began; None: none has.
        place: the option of commands that names its work folder, behind a space; empty: none does.
    """

    run: StoredRun
    started: datetime | None
    place: str = ""

    @property
    def spec(self) -> dict[str, Any] | None:
        """The document of the run; None for a run that has none."""
        document = self.run.config.get("spec")
        return hidden_secrets(document) if document is not None else None

    @cached_property
    def settings(self) -> dict[str, str]:
        """All settings by dotted name, as texts, the changed ones first."""
        found = settings_of(self.run.config)
        return {name: found[name] for name in (*self.changed, *(one for one in found if one not in self.changed))}

    @cached_property
    def changed(self) -> dict[str, str]:
        """The settings that are not the default; none of a run without a document."""
        known = settings_of(self.run.config)
        changed = changed_settings(self.run.config.get("spec") or {}) or {}
        return {one: known[one] for name in changed for one in known if one == name or one.startswith(f"{name}.")}

    @property
    def has_document(self) -> bool:
        """Whether the run can be printed as a run file."""
        return "spec" in self.run.config

    @property
    def run_file(self) -> str | None:
        """The run file that the first command named."""
        words = self.run.provenance[0]["command"].split() if self.run.provenance else []
        return next((word.strip("'\"") for word in words if word.strip("'\"").endswith(".toml")), None)

    @property
    def spec_command(self) -> str:
        """The command that prints the run as a run file."""
        return f"restmcts runs spec {quote(self.run.name)}{self.place}"

    def command_of(self, program: str) -> str | None:
        """Return the first command that this program of restmcts was called with for the run."""
        commands = [str(one["command"]) for one in self.run.provenance or ()]
        return next((one for one in commands if f"{one} ".startswith(f"restmcts {program} ")), None)

    @property
    def document(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "spec": self.spec,
            "changed": self.changed,
            "provenance": self.run.provenance,
            "run_file": self.run_file,
            "started_at": self.started,
        }

    @property
    def dated_document(self) -> dict[str, Any]:
        """All of it with its times, as texts, as JSON."""
        moments = {
            "created_at": self.run.created_at,
            "started_at": self.started,
            "finished_at": self.run.finished_at,
        }
        return {**self.document, **{name: one.isoformat() if one else None for name, one in moments.items()}}

    def table(self, what: str) -> Table:
        """Return all of it but the settings that are the default as a table, for a report of that
        kind.
        """
        settings = {name: value.replace("\n", "; ") for name, value in self.settings_lines().items()}
        shown = tuple((name, " ".join(value.split())) for name, value in {**self.lines(), **settings}.items())
        return Table(f"Where this {what} comes from", ("what", "recorded"), shown)

    def lines(self) -> dict[str, str]:
        """Return names and values for people, one a line."""
        found = dict(self._commands())
        if self.run_file is not None:
            found["run file"] = f"{self.run_file}, as it was then; {self.spec_command} prints it"
        return found | {
            "created (UTC)": _clock(self.run.created_at),
            "started (UTC)": _clock(self.started) if self.started is not None else "not yet",
            "ended (UTC)": _clock(self.run.finished_at) if self.run.finished_at is not None else "not yet",
        }

    def settings_lines(self) -> dict[str, str]:
        """Return the settings that differ from the defaults, one a line, and how all are seen; all
        of a run that has no document.
        """
        if not self.has_document:
            return {"settings": _lines(self.settings)}
        return {
            "changed settings": _lines(self.changed) or "none",
            "all settings": self.spec_command,
        }

    def _commands(self) -> Iterator[tuple[str, str]]:
        if not self.run.provenance:
            for name in ("command", "versions", "machine"):
                yield name, NOT_RECORDED
            return
        first, *later = self.run.provenance
        yield "command", first["command"]
        yield "versions", _versions(first["versions"])
        yield "machine", _machine(first["machine"])
        before = first
        for number, one in enumerate(later, start=1):
            when = datetime.fromisoformat(one["when"]).astimezone(UTC)
            differing = [f"{_clock(when)} UTC: {one['command']}"]
            differing += [f"versions {_versions(one['versions'])}"] if one["versions"] != before["versions"] else []
            differing += [f"machine {_machine(one['machine'])}"] if one["machine"] != before["machine"] else []
            yield f"continued ({number})", "; ".join(differing)
            before = one


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a run by dotted name, as texts; problem sets by the beginning of
    their digest. Each member of a list of tables (an evaluation) is one setting, by its name.
    """
    document = config.get("spec") or {name: value for name, value in config.items() if name != "problems"}
    sets = {
        f"problem set {name}": str(digest)[:DIGEST_DIGITS] for name, digest in (config.get("problems") or {}).items()
    }
    found: dict[str, str] = {}
    for name, value in flattened(hidden_secrets(document)).items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            found |= {f"{name}.{one.get('name', place)}": _of_table(one) for place, one in enumerate(value, 1)}
        else:
            found[name] = _shown(value)
    return found | sets


def _of_table(table: Mapping[str, Any]) -> str:
    """Return what a table sets, without what is the default of its search or of an evaluation."""
    search = table.get("search")
    usual = search_defaults(search.get(ALGORITHM)) if isinstance(search, Mapping) else {}
    usual |= {"policy": EvaluationSpec.model_fields["policy"].default}
    chosen = {
        name: _shown(value)
        for name, value in flattened(table).items()
        if name != "name" and value is not None and value != usual.get(name)
    }
    return _joined(chosen) or NONE


def hidden_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of settings without what must not be shown."""
    return {name: HIDDEN if value and is_secret(name) else _value(value) for name, value in document.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return hidden_secrets(value)
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    return without_secrets(value) if isinstance(value, str) else value


def _shown(value: object) -> str:
    match value:
        case None:
            return NONE
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(map(_shown, value)) or NONE
        case Mapping():
            return _of_table(value)
        case _:
            return str(value) or EMPTY


def _lines(settings: Mapping[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in settings.items())


def _joined(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _machine(machine: Mapping[str, Any]) -> str:
    memory, gpus = machine.get("memory_bytes"), machine.get("gpus") or ()
    parts = [machine.get("cpu") or "", counted(machine["cores"], "core") if machine.get("cores") else ""]
    parts += [f"{memory / _GIB:.1f} GiB of memory" if memory else "", "; ".join(gpus) or "no NVIDIA GPU"]
    return ", ".join(part for part in (*parts, machine.get("os") or "") if part)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
