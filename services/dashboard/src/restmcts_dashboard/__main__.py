"""The dashboard of the stack that the settings name: `python -m restmcts_dashboard`."""

import sys

from restmcts.errors import RestMctsError
from restmcts.settings import load_settings

from restmcts_dashboard.serving import serve_stack


def main() -> int:
    """Serve until the process is asked to end; return the exit code."""
    try:
        serve_stack(load_settings())
    except RestMctsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
