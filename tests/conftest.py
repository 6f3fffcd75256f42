"""Marks tests by their folder, so that no file can forget to."""

from pathlib import Path

import pytest

MARKED_FOLDERS = ("integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        if tier in MARKED_FOLDERS:
            item.add_marker(tier)
