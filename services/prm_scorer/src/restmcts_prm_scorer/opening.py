"""A scorer from what a checkpoint's URI names: a value model, or a process reward model of another format."""

from dataclasses import dataclass
from typing import Any

from restmcts.adapters.uris import local_path
from restmcts.modeling.prm.formats import parse_reference
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.value_model import TransformersScorer
from restmcts.ports import ArtifactStore, StepScorer


@dataclass(frozen=True, slots=True)
class ScorerOptions:
    """How models are loaded and called.

    Attributes:
        max_batch_tokens: of one forward pass.
        key_value_bytes: memory for the keys and values that a model keeps; 0: none.
        device: of torch.
        template: prompt template of value models that do not name their own.
        trust_remote_code: run code that comes with a model.
    """

    max_batch_tokens: int
    key_value_bytes: int
    device: str = "cpu"
    template: str = "auto"
    trust_remote_code: bool = False

    @property
    def loading(self) -> dict[str, Any]:
        """What loading needs of them."""
        return {"device": self.device, "template": self.template, "trust_remote_code": self.trust_remote_code}


def open_scorer(uri: str, artifacts: ArtifactStore, options: ScorerOptions) -> StepScorer:
    """Return a scorer over the model at `PLACE[?format=NAME&separator=TEXT]`.

    Raises:
        InputError: if the URI names no known format.
        ModelError: if the model is not there, is broken, or is of no known format.
        StorageError: if its artifact cannot be fetched.
    """
    reference = parse_reference(uri)
    prm = load_prm(reference, local_path(reference.place, artifacts), **options.loading)
    aggregation = reference.aggregation or prm.format.aggregation
    return TransformersScorer(prm.loaded, options.max_batch_tokens, options.key_value_bytes, prm.reader, aggregation)
