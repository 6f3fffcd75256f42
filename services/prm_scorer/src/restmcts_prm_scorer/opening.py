"""A scorer from what a checkpoint's URI names: a value model, a process reward model of another
format, a judge, or a server.
"""

import logging
from dataclasses import replace

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
    num_judge_samples,
)
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.modeling.prm.implicit import ImplicitScorer
from restmcts.modeling.prm.known.own import IMPLICIT, JUDGE, VALUE, implicit_options
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import ModelReference, parse_reference
from restmcts.modeling.prm.served import served_layout
from restmcts.modeling.value.calibration_files import read_calibration
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.ports import ArtifactStore, StepScorer

from restmcts_prm_scorer.vllm_values import VllmValues

log = logging.getLogger(__name__)


def open_scorer(
    uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings, on_vllm: VllmValues | None = None
) -> StepScorer:
    """Return a scorer over the model at `PLACE[?format=NAME&…]`
    (restmcts.modeling.prm.reference.ModelReference).

    Args:
        on_vllm: where value models trained here are served, as far as vLLM can; None: in this
            process.

    Raises:
        InputError: if the URI names no known format, or is malformed.
        ModelError: if the model is not there, is broken, or is of no known format.
        StorageError: if its artifact cannot be fetched.
    """
    reference = parse_reference(uri)
    if reference.format == JUDGE.name:
        return _judge(reference, artifacts, settings)
    if reference.format == IMPLICIT.name:
        return _implicit(reference, artifacts, settings)
    if is_scoring_server(reference.place):
        return _served(reference, settings)
    path = local_path(reference.place, artifacts)
    if on_vllm is not None and reference.format in (None, VALUE.name):
        served = on_vllm.open(reference.place, str(path), settings, reference.aggregation or VALUE.aggregation)
        if served is not None:
            return served
        log.info("%s is no value model that vLLM can serve: it runs in this process", uri)
    prm = load_prm(reference, path, **settings.loading)
    aggregation = reference.aggregation or prm.format.aggregation
    return TransformersScorer(prm.loaded, settings.max_batch_tokens, settings.key_value_bytes, prm.reader, aggregation)


def _judge(reference: ModelReference, artifacts: ArtifactStore, settings: WorkerModelSettings) -> LlmJudge:
    num_samples, aggregation = num_judge_samples(reference.options), reference.aggregation or JUDGE.aggregation
    if is_server(reference.place):
        address = judge_address(reference.place, reference.options)
        num_alternatives = TGI_ALTERNATIVES if address.protocol == "tgi" else MAX_ALTERNATIVES
        return LlmJudge(open_policy(address, settings.servers), num_samples, num_alternatives, aggregation)
    own = replace(settings, template=reference.options.get("template", settings.template))
    model = load_policy(local_path(reference.place, artifacts), **own.loading)
    proposer = TransformersProposer(model, settings.max_batch_tokens, settings.key_value_bytes)
    return LlmJudge(proposer, num_samples, MAX_ALTERNATIVES, aggregation)


def _implicit(reference: ModelReference, artifacts: ArtifactStore, settings: WorkerModelSettings) -> ImplicitScorer:
    trained_from, beta = implicit_options(reference.options)
    paths = [local_path(place, artifacts) for place in (reference.place, trained_from)]
    policy, other = (load_policy(path, **settings.loading) for path in paths)
    aggregation = reference.aggregation or IMPLICIT.aggregation
    return ImplicitScorer(policy, other, beta, settings.max_batch_tokens, aggregation, read_calibration(paths[0]))


def _served(reference: ModelReference, settings: WorkerModelSettings) -> StepScorer:
    address = parse_scoring_address(reference.place, reference.options)
    known = PRM_FORMATS.get(str(reference.format))
    layout = served_layout(reference, address.tokenizer, trust_remote_code=settings.trust_remote_code)
    aggregation = reference.aggregation or known.aggregation
    every_token = known.good_class is not None
    reading = ScoreReading(layout.readings_of_paths, known.good_class, known.low, known.high, aggregation, every_token)
    return open_http_scorer(address, reading, settings.servers)
