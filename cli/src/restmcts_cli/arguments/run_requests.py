"""The run that a person asks for: a run file or problems, and the flags that override it."""

from collections.abc import Sequence
from pathlib import Path

from restmcts.adapters.files.plugins import load_plugins, loaded_plugins
from restmcts.adapters.files.run_files import is_run_file, located, read_run_file
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import Setting, spec_of, spec_settings
from restmcts.errors import InputError

SELFTRAIN_RUN = "selftrain"
"""The name of the run that `selftrain` makes in a work folder."""

RUN_FILE_OR_PROBLEMS = (
    "A run file (.toml), or problems: a file (.jsonl, .csv), hub:OWNER/NAME[:CONFIG], demo:COUNT (number paths) or "
    "demo:KIND[:DIFFICULTY]:COUNT (number-paths:6-8, word-problems:3-5)."
)


def requested_run(
    argument: str | None, given: Sequence[Setting], base: RunSpec | None = None, *, over_http: bool = False
) -> RunSpec:
    """Return the run that is asked for (`requested_settings`).

    Raises:
        InputError: if the file cannot be read, or a setting is not known or does not fit.
    """
    return run_of(requested_settings(argument, given, base), over_http=over_http)


def run_of(settings: Sequence[Setting], *, over_http: bool = False) -> RunSpec:
    """Return the run that settings ask for, whose judges have addresses; its models are checked by
    their names and files.

    Args:
        over_http: whether servers of others are to find the models; then no folder is one.

    Raises:
        InputError: if a setting is not known or does not fit, or a model cannot be used.
    """
    spec = spec_of(settings)
    if over_http:
        from restmcts.usecases.requested.models import models_over_http

        models_over_http(spec)
        return spec
    for judge in spec.truth.judges:
        parse_address(judge)
    from restmcts_cli.arguments.model_sources import check_model_name

    for kind, model in (("policy", spec.policy), ("value", spec.value)):
        if model is not None:
            check_model_name(model, kind)
    return spec


def requested_settings(argument: str | None, given: Sequence[Setting], base: RunSpec | None = None) -> list[Setting]:
    """Return the settings of the run that is asked for, once the plugins that they name are there.

    Args:
        argument: a run file, or problems.
        given: what flags say, which overrides the file.
        base: what the file overrides in turn.

    Raises:
        InputError: if the file, or a plugin that it names, cannot be read.
    """
    settings = spec_settings(base, "the settings of this command") if base is not None else []
    if argument is not None and is_run_file(argument):
        settings += read_run_file(Path(argument))
    elif argument is not None:
        settings.append(Setting("problems", argument, "PROBLEMS"))
    here = Path.cwd()
    settings = [*(located(one, here) for one in settings), *(located(one, here) for one in given)]
    load_plugins([Path(path) for one in settings if one.name == "plugins" for path in _listed(one)])
    if plugins := [str(plugin.path) for plugin in loaded_plugins()]:
        settings.append(Setting("plugins", plugins, "--plugin"))
    return settings


def _listed(plugins: Setting) -> Sequence[str]:
    """Return the files that the setting names.

    Raises:
        InputError: if it is no list of texts.
    """
    paths = plugins.value
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise InputError(f"{plugins.where}: plugins is {paths!r}; give a list of files")
    return paths
