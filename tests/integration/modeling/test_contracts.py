"""The models on transformers keep the contracts of their ports."""

from collections.abc import Callable

from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.testing.contracts.models import check_step_proposer, check_step_scorer


def test_the_proposer_keeps_its_contract(make_policy: Callable[..., LoadedModel]) -> None:
    check_step_proposer(lambda: TransformersProposer(make_policy()), "question", ("ab\n", "c\n"))


def test_the_scorer_keeps_its_contract(make_value_model: Callable[..., LoadedModel]) -> None:
    loaded = make_value_model()
    check_step_scorer(lambda: TransformersScorer(loaded), "question", (("a\n",), ("b\n", "c\n")))
