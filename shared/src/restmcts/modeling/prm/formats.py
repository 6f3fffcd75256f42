"""The formats of process reward models: what each says of its scores, and by what a model folder
shows which one it has.

Knows names, files and JSON, not weights. How a format writes its text is in layouts.py, how it is
loaded in loading.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

from restmcts.domain.scoring import Aggregation
from restmcts.errors import InputError, ModelError

_FORMAT, _SEPARATOR, _AGGREGATION = "format", "separator", "aggregation"


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """What a format's scores are.

    Attributes:
        name: by which it is chosen.
        models: known ones.
        meaning: of the score after a step.
        low: of its own range; values are mapped from [low, high] to [0, 1].
        high: likewise.
        aggregation: of the steps' values to a whole solution's score, as its authors do it.
        marker: the text at whose token the score is read; empty: the step's own last token.
        routes: of scoring servers, which publish this format ("pooling" is vLLM's, "classify"
            SGLang's); what has a value head of its own they do not.
        good_class: whose probability the score is, of the two that a server gives; None: it gives
            one output a text, a logit.
    """

    name: str
    models: str
    meaning: str
    low: float = 0.0
    high: float = 1.0
    aggregation: Aggregation = "last"
    marker: str = ""
    routes: tuple[str, ...] = ()
    good_class: int | None = None


VALUE = PrmFormat(
    "value", "a value model trained here", "progress so far: 1 at a right solution (arXiv:2406.03816, Eq. 1)"
)
JUDGE = PrmFormat(
    "judge",
    "causal language models, here or behind HTTP",
    "probability that the model, asked, says yes: it is right so far",
)
_POOLING, _ROUTES = ("pooling",), ("pooling", "classify")
_LEADS = "probability that the step can lead to the right answer"
_RIGHT = "probability that the step is right"
FORMATS = {
    each.name: each
    for each in (
        VALUE,
        JUDGE,
        PrmFormat(
            "trl", "token classifiers of TRL's PRMTrainer", _RIGHT, 0.0, 1.0, "min", "the step separator", _POOLING, 1
        ),
        PrmFormat(
            "math-shepherd", "peiyi9979/math-shepherd-mistral-7b-prm", _LEADS, 0.0, 1.0, "min", " ки", _POOLING, 0
        ),
        PrmFormat(
            "rlhflow", "RLHFlow/Llama3.1-8B-PRM-{Mistral,Deepseek}-Data", _LEADS, 0.0, 1.0, "mean", "+", _POOLING, 0
        ),
        PrmFormat("skywork", "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-{1.5B,7B}", _LEADS, aggregation="mean", marker="\n"),
        PrmFormat(
            "qwen-math-prm", "Qwen/Qwen2.5-Math-PRM-{7B,72B}", _RIGHT, 0.0, 1.0, "product", "<extra_0>", _POOLING, 1
        ),
        PrmFormat("math-psa", "openreasoner/Math-psa", _RIGHT, 0.0, 1.0, "min", " \n\n\n\n\n", _POOLING, 0),
        PrmFormat("alphamath", "MARIO-Math-Reasoning/AlaphaMath-7B", "expected outcome, -1 wrong to 1 right", low=-1.0),
        PrmFormat("rstar", "rStar-Math's process preference model", "preference for the step, -1 to 1", low=-1.0),
        PrmFormat(
            "thudm", "state_dict of the released ReST-MCTS*", "progress so far, read from the language model's logits"
        ),
        PrmFormat(
            "orm",
            "sequence classifiers with one output",
            "probability that the whole solution is right",
            routes=_ROUTES,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ModelReference:
    """How a person names a PRM: `PLACE[?format=NAME&separator=TEXT&aggregation=NAME&…]`.

    Attributes:
        place: a folder, an artifact, a hub id, or a server's URL without its options.
        format: None: found out by looking.
        separator: of steps, where the format leaves it open (TRL's); None: the format's own.
        aggregation: of a whole solution's score; None: the format's own.
        options: all others, a judge's and a server's.
    """

    place: str
    format: str | None = None
    separator: str | None = None
    aggregation: Aggregation | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def parse_reference(text: str) -> ModelReference:
    """Return what a reference says.

    Raises:
        InputError: if it names no known format or aggregation, or a server and no format that it
            scores by.
    """
    place, mark, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=False)) if mark else {}
    name, separator, how = (options.pop(each, None) for each in (_FORMAT, _SEPARATOR, _AGGREGATION))
    if name is not None and name not in FORMATS:
        raise InputError(f"{text}: no PRM format is called {name!r}; choose one of {', '.join(FORMATS)}")
    if how is not None and how not in get_args(Aggregation):
        raise InputError(f"{text}: no aggregation is called {how!r}; choose one of {', '.join(get_args(Aggregation))}")
    _check_server(place, name)
    return ModelReference(place, name, separator, how, options)  # type: ignore[arg-type]


def _check_server(place: str, name: str | None) -> None:
    scheme, is_server, _ = place.partition("://")
    if not is_server:
        return
    route = scheme.partition("+")[0]
    known = [each.name for each in FORMATS.values() if route in each.routes] or [JUDGE.name]
    if name not in known:
        raise InputError(f"{place}: say by which format this server scores, &format=NAME; it may be {', '.join(known)}")


def detect_format(folder: Path, named: str = "") -> PrmFormat:
    """Return the format that a model folder seems to have.

    Args:
        folder: with the model's files.
        named: how the person called it; formats that leave no other trace are known by their names.

    Raises:
        ModelError: if its files show none.
    """
    config = _json(folder / "config.json")
    architectures = [str(each) for each in config.get("architectures") or []]
    if (folder / "restmcts.json").is_file() and _json(folder / "restmcts.json").get("kind") == "value":
        return VALUE
    name = _by_files(folder, architectures) or _by_name(f"{named} {folder.name} {config.get('_name_or_path', '')}")
    if name is None:
        listed = ", ".join(architectures) or "no architecture named"
        raise ModelError(
            f"{named or folder}: not known as a process reward model ({listed}); if it is one, say which: "
            f"{named or folder}?format=NAME, one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _by_files(folder: Path, architectures: Sequence[str]) -> str | None:
    if "Qwen2ForProcessRewardModel" in architectures:
        return "qwen-math-prm"
    if any(each.endswith("ForTokenClassification") for each in architectures):
        return "trl"
    if any(each.endswith("ForSequenceClassification") for each in architectures):
        return "orm"
    if (folder / "value_head.pth").is_file():
        return "alphamath"
    weights = weight_files(folder)
    if "v_head.summary.weight" in weights:
        return "skywork"
    return "thudm" if not weights and state_dict_file(folder) is not None else None


def _by_name(text: str) -> str | None:
    lowered = text.lower()
    known = {"math-shepherd": "math-shepherd", "rlhflow": "rlhflow", "math-psa": "math-psa"}
    return next((name for trace, name in known.items() if trace in lowered), None)


def weight_files(folder: Path) -> dict[str, Path]:
    """Return in which safetensors file of the folder each weight is, from the files' headers.

    Raises:
        ModelError: if one of them is broken.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as opened:
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise ModelError(f"{file}: not readable ({error}); fetch it again") from error
        found.update(dict.fromkeys(header, file))
    return found


def state_dict_file(folder: Path) -> Path | None:
    """Return the folder's one file of pickled weights; None if there is none or more than one."""
    files = [file for pattern in ("*.pt", "*.pth", "pytorch_model.bin") for file in folder.glob(pattern)]
    return files[0] if len(files) == 1 else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent}: no model folder ({path.name} is missing or broken)") from error
    return found if isinstance(found, dict) else {}
