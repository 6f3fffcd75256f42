"""Trees and models made from a seed: what searches, labels and handlers are tried on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Verdict
from restmcts.domain.requests import (
    Alternative,
    GenerationSettings,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    derive_seed,
)
from restmcts.domain.scoring import Aggregation, first_step, scored_branches
from restmcts.domain.tree import ROOT, Node, Tree

RIGHT_ANSWER = "7"
WRONG_ANSWER = "3"


def answer_step(answer: str) -> str:
    """Return a step that states an answer."""
    return f"The answer is {answer}\n"


def chain(num_steps: int) -> tuple[Tree, Node]:
    """Return a tree of one solution of `num_steps` steps, and its final node."""
    tree = Tree()
    node = tree.root
    for place in range(num_steps):
        text = f"step {place}\n" if place < num_steps - 1 else answer_step(RIGHT_ANSWER)
        node, _ = tree.add_child(node, ProposedStep(text, 1, -1.0), final=place == num_steps - 1)
    return tree, node


def random_tree(seed: int, num_nodes: int) -> tuple[Tree, dict[int, Verdict]]:
    """Return a tree of that many nodes without the root, with a verdict on every leaf that is
    finished; some are not.
    """
    generator = random.Random(seed)
    tree = Tree()
    for number in range(num_nodes):
        parent = tree[generator.randrange(len(tree))]
        tree.add_child(parent, ProposedStep(f"step {number}\n", 1, -1.0), final=False)
    leaves = [node for node in tree.nodes if not node.children and node.node_id != ROOT]
    verdicts = {}
    for leaf in leaves:
        if generator.random() < 0.8:
            leaf.final = True
            leaf.model_value = leaf.search_value = generator.random()
            verdicts[leaf.node_id] = generator.choice(list(Verdict))
    return tree, verdicts


@dataclass(frozen=True, slots=True)
class RandomModels:
    """A policy and a value model whose answers depend on the seed and the request alone, through
    the ports of the real ones.

    Attributes:
        num_words: different steps that the policy knows; 1 makes every sample the same.
        answer_rate: chance that a step states an answer.
        end_rate: chance that the policy ends the solution after a step without one.
        silence_rate: chance that a sample has no step at all.
        aggregation: of a whole solution's score.
    """

    seed: int = 0
    num_words: int = 4
    answer_rate: float = 0.3
    end_rate: float = 0.05
    silence_rate: float = 0.05
    aggregation: Aggregation = "last"

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        return [self.propose_one(request) for request in requests]

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        return [self.score_one(request) for request in requests]

    def answer(self, request: Request) -> Response:
        """Return the models' answer to either kind of request."""
        if isinstance(request, ScoreSteps):
            return self.score_one(request)
        assert isinstance(request, ProposeSteps), "no model answers calls of tools"
        return self.propose_one(request)

    def propose_one(self, request: ProposeSteps) -> StepsProposed:
        generator = random.Random(derive_seed(self.seed, request.seed, request.steps))
        samples = tuple(self._sample(generator, request) for _ in range(request.num_samples))
        return StepsProposed(request.number, samples, len(request.steps))

    def score_one(self, request: ScoreSteps) -> StepsScored:
        solutions = [request.steps + branch for branch in request.branches]
        first = first_step(request)
        values = [[self._value(steps[:number]) for number in range(first, len(steps) + 1)] for steps in solutions]
        return scored_branches(request, values, self.aggregation, sum(map(len, request.branches)))

    def _value(self, steps: tuple[str, ...]) -> float:
        return random.Random(derive_seed(self.seed, steps)).random()

    def _sample(self, generator: random.Random, request: ProposeSteps) -> Sample:
        steps: list[ProposedStep] = []
        max_steps = request.max_steps or 12
        ended = generator.random() < self.silence_rate
        while len(steps) < max_steps and not ended:
            given = request.begun if not steps else ""
            states_answer = generator.random() < self.answer_rate and not given
            text = (
                answer_step(generator.choice((RIGHT_ANSWER, WRONG_ANSWER))) if states_answer else self._word(generator)
            )
            text = f"{given}\n" if given else text
            others = [word for word in map(self._text, range(self.num_words)) if word != text and not given]
            untried = tuple(
                Alternative(word.strip(), -0.1, -1.0 - generator.random(), 1)
                for word in others[: request.num_alternatives]
            )
            steps.append(ProposedStep(text, 2, -generator.random(), untried))
            ended = states_answer or generator.random() < self.end_rate
        return Sample(tuple(steps), 2 * len(steps) + ended, ended)

    def _word(self, generator: random.Random) -> str:
        return self._text(generator.randrange(self.num_words))

    def _text(self, number: int) -> str:
        return f"move {number}\n"
