"""Commands whose modules are imported when they are called, or when their own help is asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import cleandoc
from typing import Any, ClassVar

import typer
from restmcts.errors import InputError
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.main import get_command


class _Group(TyperGroup):
    """A group that answers an unknown command with those that there are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is called, with its arguments.

        Raises:
            InputError: if there is none of that name.
        """
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise InputError(f"{ctx.command_path} has no command {args[0]!r}; it has {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


class _Command(TyperCommand):
    """A command none of whose arguments and options is given as an empty text: an empty path would
    be the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what is given; return what is left.

        Raises:
            InputError: naming what is empty.
        """
        given, *_ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.get_params(ctx):
            value = given.get(parameter.name)
            if value == "" or (isinstance(value, (list, tuple)) and "" in value):
                name = parameter.display_name_raw if isinstance(parameter, TyperArgument) else parameter.opts[0]
                way_out = "give a value, or leave it out" if not parameter.required else "give a value"
                raise InputError(f"{ctx.command_path}: {name} is empty; {way_out}")
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command that is not imported yet.

    Attributes:
        place: `MODULE:NAME` of its function, or of the `Typer` of a group, below
            `restmcts_cli.commands`.
        summary: the first paragraph of its help.
    """

    place: str
    summary: str

    def load(self, name: str) -> Any:
        """Import the command, and return it under that name."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"restmcts_cli.commands.{module}"), attribute)
        holder = typer.Typer(rich_markup_mode="rich", callback=lambda: None)
        if isinstance(found, typer.Typer):
            _answer_well(found)
            holder.add_typer(found, name=name, cls=_Group)
        else:
            holder.command(name, cls=_Command)(found)
        return _with_whole_paragraphs(get_command(holder).commands[name])  # type: ignore[attr-defined]


def _answer_well(group: typer.Typer) -> None:
    """Let the commands of a group, and of the groups below it, be of the classes above."""
    for command in group.registered_commands:
        command.cls = _Command
    for below in group.registered_groups:
        below.cls = _Group
        if below.typer_instance is not None:
            _answer_well(below.typer_instance)


def _with_whole_paragraphs(command: Any) -> Any:
    """Return a command, and with a group its commands, with one line a paragraph of its help:
    the terminal is not as wide as the source is.
    """
    paragraphs = cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) or None
    for below in getattr(command, "commands", {}).values():
        _with_whole_paragraphs(below)
    return command


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __init__(self, table: Mapping[str, LazyCommand]) -> None:
        self._table = table
        self._loaded = cache(lambda name: table[name].load(name))

    def __getitem__(self, name: str) -> Any:
        return self._loaded(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class LazyGroup(TyperGroup):
    """A group that lists its commands without importing them.

    Attributes:
        table: its commands by name, in the order of the list.
    """

    table: ClassVar[Mapping[str, LazyCommand]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands(self.table)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what is listed of a command: its name and its summary."""
        known = self.table.get(cmd_name)
        return None if known is None else TyperCommand(cmd_name, help=known.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is called, imported, with its arguments."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, self.commands[name] if name is not None and listed is not None else None, rest
