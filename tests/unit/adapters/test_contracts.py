"""The verifier, and the models from a seed that stand for real ones in tests, keep the
contracts of their ports.
"""

from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.testing.contracts.models import check_step_proposer, check_step_scorer
from restmcts.testing.contracts.verifier import check_verifier
from restmcts.testing.trees import RandomModels


def test_the_verifier_keeps_its_contract() -> None:
    with AnswerVerifier() as verifier:
        check_verifier(verifier)


def test_models_from_a_seed_keep_the_contracts() -> None:
    check_step_proposer(RandomModels, "a question", ("a\n", "b\n"))
    check_step_scorer(RandomModels, "a question", (("a\n",), ("b\n", "c\n")))
