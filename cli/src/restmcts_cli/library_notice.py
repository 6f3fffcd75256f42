"""What a person sees while the libraries of models are imported, which takes seconds."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class LibraryNotice(MetaPathFinder):
    """Says once, on standard error, that torch is being imported; finds no module itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None: other finders are asked."""
        if fullname == "torch":
            from restmcts_cli.reports.shown_tables import print_note

            sys.meta_path.remove(self)
            print_note("loading torch and the libraries of models")
        return None
