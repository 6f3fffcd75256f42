"""`restmcts ui`: runs and trees in a browser."""

import webbrowser
from typing import Annotated

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import DATABASE_FILE, Workdir, stack_settings
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import print_note


def ui(
    workdir: Workdir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  \\[default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 uses a free one.  \\[default: 8600]", min=0, max=65535)
    ] = None,
    plugin: Plugins = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Show runs and trees in a browser, until Ctrl-C; a run that is in progress in another process
    is shown live.

    Nothing is changed unless RESTMCTS_DASHBOARD_TOKEN is set: whoever gives that token in the
    browser annotates steps and answers of trees, archives runs, and retries what failed. Where
    RESTMCTS_API_ENABLED is true, projects also reach their runs by the HTTP API, at /api/v1.
    Browsers may ask under 127.0.0.1, localhost, the given host, and the names that
    RESTMCTS_DASHBOARD_NAMES lists, between commas.

    Example: [bold]RESTMCTS_DASHBOARD_TOKEN=some-words restmcts ui --workdir demo-out[/bold]
    """
    print_note(f"restmcts ui: {workdir if workdir is not None else 'the stack'}")
    from restmcts.settings import load_dashboard_settings

    try:
        from restmcts_dashboard.serving import folder_source, serve, stack_source
    except ImportError as error:
        raise InputError(f"the dashboard is not installed here ({error}): restmcts-cli[local]") from error
    if workdir is not None:
        path = workdir / DATABASE_FILE
        if not path.is_file():
            raise InputError(f"{workdir} contains no {DATABASE_FILE}: it is not a work folder")
        settings = load_dashboard_settings()
        source = folder_source(path, settings)
        source.database.check_version()
    else:
        settings = of_stack = stack_settings()
        source = stack_source(of_stack)

    def ready(address: str) -> None:
        print_note(f"{source.title}: {address}{', its HTTP API under /api/v1' if source.serves_api else ''}")
        if open_browser:
            webbrowser.open(address)

    serve(source, host or settings.dashboard_host, settings.dashboard_port if port is None else port, ready)
