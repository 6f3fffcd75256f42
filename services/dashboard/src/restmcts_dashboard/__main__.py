"""The dashboard of the stack that the settings name: `python -m restmcts_dashboard`."""

import sys

from restmcts.errors import RestMctsError
from restmcts.settings import load_settings

from restmcts_dashboard.serving import serve, stack_source


def main() -> int:
    """Serve until the process is told to end; return the exit code."""
    try:
        settings = load_settings()
        serve(stack_source(settings), settings.dashboard_host, settings.dashboard_port)
    except RestMctsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
