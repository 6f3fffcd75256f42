"""A scorer from what a checkpoint's URI names: a value model, a process reward model of another
format, a judge, a server, or an ensemble of these.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from restmcts.adapters.models.ensemble import EnsembleScorer, is_ensemble, parse_ensemble
from restmcts.adapters.models.http_policy.address import is_server
from restmcts.adapters.models.http_policy.opening import open_policy
from restmcts.adapters.models.http_scorer.address import is_scoring_server, parse_scoring_address
from restmcts.adapters.models.http_scorer.opening import open_http_scorer
from restmcts.adapters.models.http_scorer.scorer import ScoreReading
from restmcts.adapters.models.llm_judge import (
    MAX_ALTERNATIVES,
    TGI_ALTERNATIVES,
    LlmJudge,
    judge_address,
    judge_settings,
    judge_template,
)
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.scoring import Aggregation
from restmcts.domain.stats.first_errors import Rule
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat
from restmcts.modeling.prm.implicit import ImplicitScorer
from restmcts.modeling.prm.known.own import ENSEMBLE, IMPLICIT, JUDGE, VALUE, implicit_options
from restmcts.modeling.prm.loading import LoadedPrm, load_prm
from restmcts.modeling.prm.reference import ModelReference, parse_reference
from restmcts.modeling.prm.served import served_layout
from restmcts.modeling.value.calibration_files import read_calibration
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.ports import ArtifactStore, StepScorer

from restmcts_prm_scorer.vllm_values import VllmValues

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedPrm:
    """A reward model ready to be asked.

    Attributes:
        rule: by which its values call a step wrong: the format's, but of values that are chances
            whatever the format, as those of cross-entropy and calibrated ones.
        aggregation: of the values of steps to a whole solution's score.
        prm: its weights; None where it is asked: a judge, a server, or several models.
    """

    format: PrmFormat
    scorer: StepScorer
    rule: Rule
    aggregation: Aggregation
    prm: LoadedPrm | None = None


def open_scorer(
    uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings, on_vllm: VllmValues | None = None
) -> StepScorer:
    """Return the scorer of `open_prm`.

    Args:
        on_vllm: where value models trained here are served, as far as vLLM can; None: in this
            process. The members of an ensemble always are: the server has one model at a time.
    """
    if on_vllm is not None and not is_ensemble(uri):
        reference = parse_reference(uri)
        if reference.format in (None, VALUE.name):
            path = str(local_path(reference.place, artifacts))
            served = on_vllm.open(reference.place, path, settings, reference.aggregation or VALUE.aggregation)
            if served is not None:
                return served
            log.info("%s is no value model that vLLM can serve: it runs in this process", uri)
    return open_prm(uri, artifacts, settings).scorer


def open_prm(uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> OpenedPrm:
    """Return the model at `PLACE[?format=NAME&…]` (restmcts.modeling.prm.reference.ModelReference),
    or the ensemble of several (restmcts.adapters.models.ensemble).

    Raises:
        InputError: if the URI names no known format, or is malformed.
        ModelError: if the model is not there, is broken, or is of no known format; of an ensemble,
            if this is so of a member, or the values of two mean different things.
        StorageError: if its artifact cannot be fetched.
    """
    if is_ensemble(uri):
        return _ensemble(uri, artifacts, settings)
    reference = parse_reference(uri)
    if reference.format == JUDGE.name:
        return _judge(reference, artifacts, settings)
    if reference.format == IMPLICIT.name:
        return _implicit(reference, artifacts, settings)
    if is_scoring_server(reference.place):
        return _served(reference, settings)
    prm = load_prm(reference, local_path(reference.place, artifacts), **settings.loading)
    aggregation = reference.aggregation or prm.format.aggregation
    scorer = TransformersScorer(
        prm.loaded, settings.max_batch_tokens, settings.key_value_bytes, prm.reader, aggregation
    )
    is_chance = prm.loaded.value_scale == "logit" or prm.loaded.calibration is not None
    return OpenedPrm(prm.format, scorer, "below" if is_chance else prm.format.rule, aggregation, prm)


def _ensemble(uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> OpenedPrm:
    ensemble = parse_ensemble(uri)
    share = replace(settings, key_value_bytes=settings.key_value_bytes // len(ensemble.members))
    opened = [open_prm(member, artifacts, share) for member in ensemble.members]
    first, remedy = opened[0], "calibrate those of progress (`restmcts prm calibrate`), or leave some out"
    rules = [{"drop": "progress", "below": "chances"}[one.rule] for one in opened]
    _check_alike(uri, "their values mean", ensemble.members, rules, remedy)
    aggregations = [one.aggregation for one in opened]
    _check_alike(uri, "a solution's score is", ensemble.members, aggregations, "add &aggregation= to each member")
    scorer = EnsembleScorer([one.scorer for one in opened], ensemble.penalty, first.aggregation)
    return OpenedPrm(ENSEMBLE, scorer, first.rule, first.aggregation)


def _check_alike(uri: str, what: str, members: Sequence[str], kinds: Sequence[str], remedy: str) -> None:
    groups = {kind: [member for member, own in zip(members, kinds, strict=True) if own == kind] for kind in kinds}
    if len(groups) > 1:
        said = "; ".join(f"{kind}: {', '.join(group)}" for kind, group in sorted(groups.items()))
        raise ModelError(f"{uri}: {what} different things ({said}); {remedy}")


def _judge(reference: ModelReference, artifacts: ArtifactStore, settings: WorkerModelSettings) -> OpenedPrm:
    aggregation = reference.aggregation or JUDGE.aggregation
    if is_server(reference.place):
        address = judge_address(reference.place, reference.options)
        num_alternatives = TGI_ALTERNATIVES if address.protocol == "tgi" else MAX_ALTERNATIVES
        how = judge_settings(reference.options, num_alternatives, aggregation)
        judge = LlmJudge(open_policy(address, settings.servers), how)
        return OpenedPrm(JUDGE, judge, JUDGE.rule, aggregation)
    how = judge_settings(reference.options, MAX_ALTERNATIVES, aggregation)
    own = replace(settings, template=judge_template(reference.options) or settings.template)
    model = load_policy(local_path(reference.place, artifacts), **own.loading)
    proposer = TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)
    judge = LlmJudge(proposer, how)
    return OpenedPrm(JUDGE, judge, JUDGE.rule, aggregation)


def _implicit(reference: ModelReference, artifacts: ArtifactStore, settings: WorkerModelSettings) -> OpenedPrm:
    trained_from, beta = implicit_options(reference.options)
    paths = [local_path(place, artifacts) for place in (reference.place, trained_from)]
    policy, other = (load_policy(path, **settings.loading) for path in paths)
    aggregation, calibration = reference.aggregation or IMPLICIT.aggregation, read_calibration(paths[0])
    scorer = ImplicitScorer(policy, other, beta, settings.max_batch_tokens, aggregation, calibration)
    return OpenedPrm(IMPLICIT, scorer, IMPLICIT.rule if calibration is None else "below", aggregation)


def _served(reference: ModelReference, settings: WorkerModelSettings) -> OpenedPrm:
    address = parse_scoring_address(reference.place, reference.options)
    known = PRM_FORMATS.get(str(reference.format))
    layout = served_layout(reference, address.tokenizer, trust_remote_code=settings.trust_remote_code)
    aggregation = reference.aggregation or known.aggregation
    every_token = known.good_class is not None
    reading = ScoreReading(layout.readings_of_paths, known.good_class, known.low, known.high, aggregation, every_token)
    return OpenedPrm(known, open_http_scorer(address, reading, settings.servers), known.rule, aggregation)
