"""A search of one's own: it samples solutions, and answers with the one that the policy finds most
probable.

    restmcts selftrain problems.jsonl --policy MODEL --workdir out \
        --plugin likeliest_search.py --algorithm likeliest -o num_samples=8
"""

from dataclasses import dataclass

from restmcts.domain.search.protocol import Budget, Coroutine, Search, best_final, proposed
from restmcts.domain.search.settings import SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.tree import Node


@SEARCHES.register("likeliest")
@dataclass(frozen=True, slots=True)
class LikeliestSettings(SearchSettings):
    num_samples: int = 4
    needs_values = False

    def build(self, budget: Budget, seed: int, ends: Ends, begins_with: Steps = ()) -> Search:
        return Likeliest(self.num_samples, budget, seed, ends)


class Likeliest(Search):
    def __init__(self, num_samples: int, budget: Budget, seed: int, ends: Ends) -> None:
        super().__init__(budget, seed, ends)
        self.num_left = num_samples

    def next_coroutine(self) -> Coroutine | None:
        self.num_left -= 1
        return self.sample() if self.num_left >= 0 and not self.out_of_budget else None

    def sample(self) -> Coroutine:
        answer = proposed((yield [self.propose(self.tree.root, num_samples=1, max_steps=None)])[0])
        self.add_sample(self.tree.root, answer.samples[0])

    def choose(self) -> Node | None:
        return best_final(self.tree, lambda node: sum(one.log_prob for one in self.tree.lineage(node)))
