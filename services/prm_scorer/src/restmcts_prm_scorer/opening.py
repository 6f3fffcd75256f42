"""A scorer from what a checkpoint's URI names: a value model, a process reward model of another
format, a judge, or a server.
"""

from dataclasses import dataclass, field
from typing import Any

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
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.prm.formats import FORMATS, JUDGE, ModelReference, parse_reference
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.served import served_layout
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.ports import ArtifactStore, StepScorer
from restmcts.settings import PolicyServerSettings


@dataclass(frozen=True, slots=True)
class ScorerOptions:
    """How models are loaded and called.

    Attributes:
        max_batch_tokens: of one forward pass.
        key_value_bytes: memory for the keys and values that a model keeps; 0: none.
        device: of torch.
        template: prompt template of value models and judges that do not name their own.
        trust_remote_code: run code that comes with a model.
        servers: how models behind HTTP are reached.
    """

    max_batch_tokens: int
    key_value_bytes: int
    device: str = "cpu"
    template: str = "auto"
    trust_remote_code: bool = False
    servers: PolicyServerSettings = field(default_factory=PolicyServerSettings)

    @property
    def loading(self) -> dict[str, Any]:
        """What loading needs of them."""
        return {"device": self.device, "template": self.template, "trust_remote_code": self.trust_remote_code}


def open_scorer(uri: str, artifacts: ArtifactStore, options: ScorerOptions) -> StepScorer:
    """Return a scorer over the model at `PLACE[?format=NAME&…]`
    (restmcts.modeling.prm.formats.ModelReference).

    Raises:
        InputError: if the URI names no known format, or is malformed.
        ModelError: if the model is not there, is broken, or is of no known format.
        StorageError: if its artifact cannot be fetched.
    """
    reference = parse_reference(uri)
    if reference.format == JUDGE.name:
        return _judge(reference, artifacts, options)
    if is_scoring_server(reference.place):
        return _served(reference, options)
    prm = load_prm(reference, local_path(reference.place, artifacts), **options.loading)
    aggregation = reference.aggregation or prm.format.aggregation
    return TransformersScorer(prm.loaded, options.max_batch_tokens, options.key_value_bytes, prm.reader, aggregation)


def _judge(reference: ModelReference, artifacts: ArtifactStore, options: ScorerOptions) -> LlmJudge:
    num_samples, aggregation = num_judge_samples(reference.options), reference.aggregation or JUDGE.aggregation
    if is_server(reference.place):
        address = judge_address(reference.place, reference.options)
        num_alternatives = TGI_ALTERNATIVES if address.protocol == "tgi" else MAX_ALTERNATIVES
        return LlmJudge(open_policy(address, options.servers), num_samples, num_alternatives, aggregation)
    loading = {**options.loading, "template": reference.options.get("template", options.template)}
    model = load_policy(local_path(reference.place, artifacts), **loading)
    proposer = TransformersProposer(model, options.max_batch_tokens, options.key_value_bytes)
    return LlmJudge(proposer, num_samples, MAX_ALTERNATIVES, aggregation)


def _served(reference: ModelReference, options: ScorerOptions) -> StepScorer:
    address = parse_scoring_address(reference.place, reference.options)
    known = FORMATS[str(reference.format)]
    layout = served_layout(reference, address.tokenizer, trust_remote_code=options.trust_remote_code)
    aggregation = reference.aggregation or known.aggregation
    reading = ScoreReading(layout.readings_of_paths, known.good_class, known.low, known.high, aggregation)
    return open_http_scorer(address, reading, options.servers)
