"""`restmcts options`: every setting of a run, with its type, default, range and what it does."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.domain.runs.option_groups import OptionGroup

COLUMNS = ("setting", "type", "default", "range", "what_it_does")


def options(
    kind: Annotated[
        str | None,
        typer.Argument(help="Kind of settings: run, method, search, training, generation, …; if not given, all kinds."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="A search or a method, e.g. mcts-star.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference page of all settings, as Markdown.")
    ] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """List the settings of a run: their type, default, range, and what they do.

    Example: [bold]restmcts options search mcts-star[/bold]
    """
    from restmcts.domain.runs.option_groups import option_groups, options_page

    if markdown:
        typer.echo(options_page(), nl=False)
        return
    groups = _chosen(list(option_groups()), kind, name)
    if json:
        print_json([_document(group) for group in groups])
    elif kind is None:
        _print_kinds(groups)
    else:
        _print_groups(groups)


def _chosen(groups: "list[OptionGroup]", kind: str | None, name: str | None) -> "list[OptionGroup]":
    found = groups
    for given, field in ((kind, "kind"), (name, "name")):
        if given is None:
            continue
        names = list(dict.fromkeys(getattr(group, field) for group in found if getattr(group, field)))
        if given not in names:
            nearest = get_close_matches(given, names, n=1)
            meant = f"did you mean {nearest[0]!r}? " if nearest else ""
            what = "kind of settings" if field == "kind" else kind
            raise InputError(f"there is no {what} {given!r}; {meant}there are {', '.join(names) or 'none with a name'}")
        found = [group for group in found if getattr(group, field) == given]
    return found


def _document(group: "OptionGroup") -> dict[str, object]:
    options = [
        {"name": one.name, "type": one.type, "default": one.default, "range": one.range, "help": one.help}
        for one in group.options
    ]
    return {"kind": group.kind, "name": group.name, "summary": group.summary, "options": options}


def _print_kinds(groups: "list[OptionGroup]") -> None:
    from restmcts.domain.runs.option_groups import TABLE_OF

    rows = [
        {
            "kind": kind,
            "in_a_run_file": place.replace("`", ""),
            "names": ", ".join(group.name for group in groups if group.kind == kind and group.name) or None,
        }
        for kind, place in TABLE_OF.items()
    ]
    print_table(("kind", "in_a_run_file", "names"), rows, empty="")
    print_note("the settings of one kind: restmcts options KIND [NAME]")


def _print_groups(groups: "list[OptionGroup]") -> None:
    for group in groups:
        typer.echo(f"{group.name or group.kind}: {group.summary}")
        if group.options:
            rows = [
                {
                    "setting": one.name,
                    "type": one.type,
                    "default": one.default or None,
                    "range": one.range or None,
                    "what_it_does": one.help,
                }
                for one in group.options
            ]
            print_table(COLUMNS, rows, empty="")
