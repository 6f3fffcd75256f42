"""The rules of the repository that no linter knows: names, pins, contracts, sizes, quick
imports.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from restmcts_cli.main import Commands

ROOT = Path(__file__).parents[2]
SOURCE_FOLDERS = ("shared", "services", "cli", "infra", "tests")
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
HEAVY = ("torch", "transformers", "restmcts.modeling", *(f"restmcts_{name}" for name in SERVICES))
LOADS_TORCH = ("torch", "transformers", "datasets", "safetensors", "restmcts.testing.prm_models", "restmcts.modeling")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_MODULES = 15  # of one folder
OWNERS = {"opentelemetry": "opentelemetry-api"}  # of import names that several distributions share


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def distributions() -> dict[str, dict[str, Any]]:
    """Return each distribution's `pyproject.toml`, parsed, by its folder relative to the root."""
    paths = [ROOT / "shared", ROOT / "cli", *(ROOT / "services" / name for name in SERVICES)]
    return {str(path.relative_to(ROOT)): read_toml(path / "pyproject.toml") for path in paths}


def python_files() -> Iterator[Path]:
    for folder in SOURCE_FOLDERS:
        yield from (ROOT / folder).rglob("*.py")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def canonical(requirement: str) -> str:
    """Return the package's name in the form that indexes compare, without extras and versions."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def declared(data: dict[str, Any]) -> set[str]:
    """Return the names of all packages that a distribution asks for, extras included."""
    extras = data["project"].get("optional-dependencies", {}).values()
    return {canonical(name) for group in (data["project"]["dependencies"], *extras) for name in group}


def imported_packages(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports absolutely, at any depth of its code."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_distributions_and_imports_are_named_as_decided() -> None:
    expected = {"shared": "restmcts", "cli": "restmcts-cli"}
    expected |= {f"services/{name}": f"restmcts-{name.replace('_', '-')}" for name in SERVICES}
    found = distributions()
    assert {folder: data["project"]["name"] for folder, data in found.items()} == expected
    for folder, data in found.items():
        import_name = data["project"]["name"].replace("-", "_")
        assert data["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/{import_name}"]
        assert [path.parent.name for path in (ROOT / folder / "src").glob("*/__init__.py")] == [import_name]


def test_every_part_has_the_version_that_the_changes_are_listed_under() -> None:
    listed = re.search(r"^## ([\d.]+)( \(not yet released\))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert listed is not None
    released, is_coming = listed[1], listed[2] is not None
    versions = {document["project"]["version"] for document in distributions().values()}
    assert versions == {f"{released}.dev0" if is_coming else released}
    charts = [yaml.safe_load(file.read_text()) for file in (ROOT / "infra" / "helm").glob("*/Chart.yaml")]
    of_charts = {chart[name] for chart in charts for name in ("version", "appVersion") if name in chart}
    assert of_charts == {f"{released}-dev" if is_coming else released}


def test_constraints_are_exact_and_cover_what_is_asked_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    pinned = [canonical(pin) for pin in pins]
    assert len(pinned) == len(set(pinned))

    found = distributions().values()
    asked = {canonical(name) for name in read_toml(ROOT / "pyproject.toml")["dependency-groups"]["dev"]}
    asked |= {name for data in found for name in declared(data)}
    assert asked - {data["project"]["name"] for data in found} - set(pinned) == set()


def test_every_import_is_of_a_declared_dependency() -> None:
    """What happens to be installed on one machine is missing from the images otherwise."""
    found = distributions()
    from_shared = declared(found["shared"])
    for folder, data in found.items():
        imports = {name for path in (ROOT / folder / "src").rglob("*.py") for name in imported_packages(path)}
        foreign = {
            canonical(OWNERS.get(name, name))
            for name in imports - sys.stdlib_module_names
            if not name.startswith("restmcts")
        }
        assert foreign - declared(data) - from_shared == set(), folder


def test_build_backend_is_the_pinned_one() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for data in distributions().values():
        assert set(data["build-system"]["requires"]) <= set(pins)


def test_every_service_is_installed_and_under_the_contracts() -> None:
    imports = {f"restmcts_{name}" for name in SERVICES}
    settings = read_toml(ROOT / "pyproject.toml")["tool"]
    assert imports <= set(settings["importlinter"]["root_packages"])
    layers, testing = settings["importlinter"]["contracts"][0], settings["importlinter"]["contracts"][-1]
    assert layers["layers"][1] == "restmcts_local", "the one package that composes services"
    assert imports - {"restmcts_local"} == set(layers["layers"][2].split(" | "))
    assert imports <= set(testing["source_modules"])
    assert {f"$MYPY_CONFIG_FILE_DIR/services/{name}/src" for name in SERVICES} <= set(settings["mypy"]["mypy_path"])


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_on_the_pages_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, flags=re.MULTILINE))
    code = " ".join(re.findall(r"```.*?```|`[^`]+`", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z]+)", code))
    assert named
    assert named <= targets


def test_no_python_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()
    }
    assert {path: length for path, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    """A command's settings are fields of a document, not parameters."""
    lengths = {
        f"{path.relative_to(ROOT)} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in python_files()
        if "src" in path.relative_to(ROOT).parts and "migrations" not in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {place: length for place, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_no_folder_has_too_many_modules() -> None:
    """Tests are found by their names; whoever reads the code must see a room at a glance."""
    sources = (path for path in python_files() if "src" in path.relative_to(ROOT).parts)
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in sources if path.stem != "__init__")
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}


def test_tests_without_models_do_not_wait_for_torch() -> None:
    """It takes five seconds of each process that collects them."""
    offenders = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("unit", "golden")
        for path in (ROOT / "tests" / folder).rglob("*.py")
        for node in parsed(path).body
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _names_in(node))
        if name.startswith(LOADS_TORCH)
    ]
    assert offenders == []


def _names_in(node: ast.stmt) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_modules_with_tables_do_not_postpone_annotations() -> None:
    """SQLModel reads annotations when a class is made: postponed, relationships of lists break."""
    offenders = []
    for path in python_files():
        if "__future__" not in path.read_text(encoding="utf-8"):
            continue
        nodes = list(ast.walk(parsed(path)))
        tables = any(isinstance(node, ast.ClassDef) and _is_table(node) for node in nodes)
        postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in nodes)
        if tables and postponed:
            offenders.append(str(path.relative_to(ROOT)))
    assert offenders == []


def _is_table(node: ast.ClassDef) -> bool:
    return any(word.arg == "table" for word in node.keywords)


def imported_by(*commands: str) -> list[set[str]]:
    """Return the modules that a process of the command line has imported after each command."""
    code = (
        "import sys\nfrom restmcts_cli.main import app\n"
        f"for command in {commands!r}:\n    try:\n        app(command.split())\n"
        "    except SystemExit:\n        pass\n    print('imported', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = [set(line.split()) for line in done.stdout.splitlines() if line.startswith("imported ")]
    assert len(found) == len(commands), done.stderr
    return found


def test_the_help_imports_no_command_and_what_commands_need() -> None:
    """It is what people wait for first: half of its time was settings of runs."""
    (imported,) = imported_by("--help")
    assert "restmcts_cli.main" in imported
    unwanted = ("numpy", "pydantic", "sqlalchemy", "restmcts.domain", "restmcts.adapters", "restmcts_cli.commands")
    assert imported & {*HEAVY, *unwanted} == set()


def test_what_is_listed_of_a_command_is_what_its_help_begins_with() -> None:
    assert Commands.table
    for name, listed in Commands.table.items():
        begins = (listed.load(name).help or "").split("\n\n")[0]
        assert " ".join(begins.split()) == listed.summary, name


def test_the_help_of_a_command_waits_for_no_model_and_no_service() -> None:
    commands = ("selftrain --help", "evaluate --help", "runs create --help", "compare --help")
    for command, imported in zip(commands, imported_by(*commands), strict=True):
        assert "restmcts_cli.commands" in imported
        assert imported & set(HEAVY) == set(), command


MUTATIONS = read_toml(ROOT / "tests/mutations/mutations.toml")["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation["name"] for mutation in MUTATIONS])
def test_a_mutation_can_be_put_into_its_file(mutation: dict[str, Any]) -> None:
    source = (ROOT / mutation["file"]).read_text(encoding="utf-8")
    assert source.count(mutation["old"]) == 1
    assert mutation["old"] != mutation["new"]
    assert [test for test in mutation["tests"] if not (ROOT / test).is_file()] == []
