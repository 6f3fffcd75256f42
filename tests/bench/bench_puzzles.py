"""Searches and self-training on the generated puzzles, without queue and database: what carries
over from one puzzle to the other.

`python tests/bench/bench_puzzles.py FOLDER [--puzzle word-problems] [--seed 0] [--searches]
[--collect]`. The models are made in FOLDER unless they are there: a policy from demonstrations, and
V_0 from its samples. One JSON line a result.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lockstep import Models, Searched, search_all
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.labels.filtering import TraceFilter, right_traces, select_traces, value_paths
from restmcts.domain.labels.inferred import end_leaves, infer_labels
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.requests import GenerationSettings, ProposedStep, derive_seed
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.stats.estimates import Figure
from restmcts.domain.stats.ranks import area_under_curve
from restmcts.domain.tasks.puzzles import ProblemSets, SetSizes, puzzle_named
from restmcts.domain.tree import Node
from restmcts.modeling.checkpoints import load_policy, load_value_model
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.training.training import PolicyExample, ValueExample, train_policy, train_value
from restmcts.modeling.value.value_model import TransformersScorer

BATCH_TOKENS = 65_536
FIRST_MODELS = "policy-0,value-0"
NUM_ITERATIONS = 2
TRACES = TraceFilter(top_k=2, rank="shortest")


@dataclass(frozen=True, slots=True)
class Setup:
    """How much of everything for one puzzle; `collect_tokens` are generated a problem and
    iteration.
    """

    sizes: SetSizes
    num_bootstrap: int
    seed_steps: int
    max_depth: int
    generation: GenerationSettings
    budgets: tuple[int, ...]
    collect_tokens: int = 110


SETUPS = {
    "number-paths": Setup(
        SetSizes(1500, NUM_ITERATIONS, 2200, 1000, 0),
        1000,
        600,
        9,
        GenerationSettings(1.0, 1.0, 8, 64),
        (60, 90, 130, 180),
    ),
    "word-problems": Setup(
        SetSizes(2500, NUM_ITERATIONS, 2200, 1000, 400),
        1000,
        800,
        10,
        GenerationSettings(1.0, 1.0, 20, 120),
        (60, 90, 130, 180),
    ),
}
D = BestFirstSettings()
VERIFIER = AnswerVerifier()
COLLECTING: dict[str, Callable[[int], SearchSettings]] = {
    "samples": lambda depth: BestOfNSettings(num_samples=1024, samples_at_once=1, score=False),
    "mcts-star": lambda depth: MctsStarSettings(
        mode="collect", stop_threshold=2.0, max_depth=depth, roll_forward_steps=depth, keep_rollouts=True
    ),
    "best-first": lambda depth: replace(D, stop_threshold=None),
}


def searches_of(depth: int) -> dict[str, SearchSettings]:
    """Return the searches that are compared at test time."""
    mcts = MctsStarSettings(
        max_depth=depth, roll_forward_steps=depth, keep_rollouts=True, stop_on_any_gated=True, choose="leaf"
    )
    once = replace(D, branch_at="untried-mass")
    return {
        "gated-greedy": CotSettings(stop_threshold=0.9, num_retries=1023),
        "gated-best-of-n": BestOfNSettings(num_samples=1024, samples_at_once=1, stop_threshold=0.9),
        "self-consistency": SelfConsistencySettings(num_samples=1024, samples_at_once=1),
        "gated-mcts-star": mcts,
        "gated-mcts-star-puct": replace(mcts, selection="puct"),
        "gated-mcts-star-log-p": replace(mcts, value_mix=0.1, stop_threshold=0.6),
        "best-first": D,
        "best-first-parallel": replace(D, branches_in_flight=4),
        "best-first-no-log-p": replace(D, log_prob_weight=0.0, stop_threshold=0.9),
        "best-first-more-log-p": replace(D, log_prob_weight=0.2),
        "best-first-less-value": replace(D, value_weight=2.0),
        "best-first-step-start": replace(D, branch_at="step-start"),
        "best-first-untried-mass": once,
        "best-first-entropy": replace(D, branch_at="entropy"),
        "best-first-merging": replace(D, merge="normalised"),
        "best-first-untried-mass-merging": replace(once, merge="normalised"),
    }


class Bench:
    """One puzzle and seed in one folder."""

    def __init__(self, folder: Path, puzzle: str, seed: int) -> None:
        self.setup = SETUPS[puzzle]
        self.folder, self.puzzle, self.seed = folder, puzzle, seed
        self.sets: ProblemSets = puzzle_named(puzzle).make_sets(
            random.Random(derive_seed(seed, "problems")), self.setup.sizes
        )
        training = TrainingSettings(learning_rate=3e-3, optimizer="muon", muon_learning_rate=0.01, seed=seed)
        self.seed_training = replace(training, num_steps=self.setup.seed_steps)
        self.further = replace(training, num_steps=250, learning_rate=1.5e-3, muon_learning_rate=0.005)
        self.value_training = replace(self.further, num_steps=160, batch_size=64)

    def say(self, **result: object) -> None:
        print(json.dumps({"puzzle": self.puzzle, "seed": self.seed, **result}), flush=True)

    def models(self, policy: str, value: str | None) -> Models:
        proposer = TransformersProposer(load_policy(self.folder / policy), BATCH_TOKENS)
        return Models(
            proposer, None if value is None else TransformersScorer(load_value_model(self.folder / value), BATCH_TOKENS)
        )

    def search(self, problems: Sequence[Problem], settings: SearchSettings, budget: Budget, models: Models) -> Searched:
        return search_all([p.question for p in problems], settings, budget, models, self.setup.generation, self.seed)

    def is_right(self, problem: Problem, steps: Sequence[str]) -> bool:
        check = Check(problem.question, problem.answer, problem.kind, "".join(steps))
        return VERIFIER.verify([check]) == [Verdict.RIGHT]

    def outcomes(self, problems: Sequence[Problem], searched: Searched) -> list[bool]:
        pairs = zip(problems, searched.searches, strict=True)
        return [s.chosen is not None and self.is_right(problem, s.tree.steps_to(s.chosen)) for problem, s in pairs]

    def make_first(self) -> None:
        """Train policy-0 on demonstrations and value-0 on the labels of its samples."""
        if not (self.folder / "policy-0").exists():
            examples = [PolicyExample(p.question, p.solution or ()) for p in self.sets.demonstrations]
            train_policy(f"{self.puzzle}:{self.seed}", examples, self.seed_training, self.folder / "policy-0")
        if not (self.folder / "value-0").exists():
            members = self.sets.demonstrations[: self.setup.num_bootstrap]
            searched = self.search(
                members, SelfConsistencySettings(num_samples=4), Budget(), self.models("policy-0", None)
            )
            for problem, search in zip(members, searched.searches, strict=True):
                steps = [ProposedStep(text, 0, 0.0) for text in problem.solution or ()]
                search.tree.add_path(search.tree.root, steps, lambda step: step.text.startswith("The answer"))
            _, values = self.examples(members, searched)
            train_value(self.folder / "policy-0", values, self.value_training, self.folder / "value-0")

    def examples(
        self, problems: Sequence[Problem], searched: Searched
    ) -> tuple[list[PolicyExample], list[ValueExample]]:
        """Return the right traces and the labelled paths of trees."""
        policy: list[PolicyExample] = []
        values: list[ValueExample] = []
        for problem, search in zip(problems, searched.searches, strict=True):
            tree = search.tree
            verdicts = {
                leaf.node_id: Verdict.RIGHT if self.is_right(problem, tree.steps_to(leaf)) else Verdict.WRONG
                for leaf in end_leaves(tree)
            }
            traces = select_traces(right_traces(tree, verdicts), TRACES)
            policy += [PolicyExample(problem.question, trace.steps) for trace in traces]
            paths = value_paths(tree, infer_labels(tree, verdicts))
            values += [ValueExample(problem.question, path.steps, path.targets) for path in paths]
        return policy, values

    def compare_searches(
        self, problems: Sequence[Problem], policy: str, value: str, budgets: Sequence[int], names: str
    ) -> None:
        """Tell the accuracy of every search under every budget, and its difference from the
        first with its error.
        """
        models = self.models(policy, value)
        greedy = self.search(problems, CotSettings(), Budget(), models)
        self.say(
            method="greedy",
            policy=policy,
            accuracy=Figure.of(self.outcomes(problems, greedy)).estimate.value,
            tokens=greedy.mean("tokens"),
        )
        for budget in budgets:
            base: list[bool] = []
            for name, settings in searches_of(self.setup.max_depth).items():
                if names and name not in names.split(","):
                    continue
                searched = self.search(problems, settings, Budget(tokens=budget), models)
                right = self.outcomes(problems, searched)
                base = base or right
                ahead = Figure.of(right).minus(Figure.of(base))
                self.say(
                    method=name,
                    policy=policy,
                    budget=budget,
                    accuracy=round(Figure.of(right).estimate.value, 4),
                    ahead=round(ahead.value, 4),
                    error=round(ahead.standard_error, 4),
                    **{field: round(searched.mean(field), 1) for field in ("tokens", "prompt_tokens", "reused_tokens")},
                    scored=round(searched.mean("scored_tokens"), 1),
                    seconds=round(searched.seconds, 2),
                )

    def judge_scores(self, problems: Sequence[Problem], policy: str, value: str) -> None:
        """Tell how well V and the policy's log-probability rank finished solutions of four
        samples a problem.
        """
        searched = self.search(problems, BestOfNSettings(num_samples=4), Budget(), self.models(policy, value))
        found: list[tuple[Node, float, bool]] = [
            (leaf, search.tree.log_prob_of(leaf), self.is_right(problem, search.tree.steps_to(leaf)))
            for problem, search in zip(problems, searched.searches, strict=True)
            for leaf in search.tree.final_nodes()
        ]
        right = [is_right for *_, is_right in found]
        auc = {"auc_value": area_under_curve([leaf.model_value or 0.0 for leaf, *_ in found], right)}
        self.say(**auc, auc_log_prob=area_under_curve([log_prob for _, log_prob, _ in found], right), leaves=len(found))

    def self_train(self, how: str) -> None:
        """Collect with one search, train both models, twice; tell the greedy accuracy after
        each.
        """
        policy, value = "policy-0", "value-0"
        settings = COLLECTING[how](self.setup.max_depth)
        first = self.sets.demonstrations[: self.setup.num_bootstrap]
        bootstrap = self.search(first, SelfConsistencySettings(num_samples=4), Budget(), self.models(policy, None))
        _, all_values = self.examples(first, bootstrap)
        for iteration, problems in enumerate(self.sets.searched, start=1):
            models = self.models(policy, value if settings.needs_values else None)
            searched = self.search(problems, settings, Budget(tokens=self.setup.collect_tokens), models)
            traces, values = self.examples(problems, searched)
            all_values += values
            parent, policy = policy, f"{how}-policy-{iteration}"
            train_policy(self.folder / parent, traces, self.further, self.folder / policy)
            if settings.needs_values:
                parent, value = value, f"{how}-value-{iteration}"
                train_value(self.folder / parent, all_values, self.value_training, self.folder / value)
            greedy = self.outcomes(
                self.sets.test, self.search(self.sets.test, CotSettings(), Budget(), self.models(policy, None))
            )
            sampled = self.search(self.sets.test, CotSettings(greedy=False), Budget(), self.models(policy, None))
            self.say(
                collected=how,
                iteration=iteration,
                tokens=round(searched.mean("tokens"), 1),
                seconds=round(searched.seconds, 1),
                traces=len(traces),
                solved=round(
                    sum(
                        any(self.is_right(p, s.tree.steps_to(n)) for n in s.tree.final_nodes())
                        for p, s in zip(problems, searched.searches, strict=True)
                    )
                    / len(problems),
                    3,
                ),
                greedy=Figure.of(greedy).estimate.value,
                sampled=Figure.of(self.outcomes(self.sets.test, sampled)).estimate.value,
                outcomes="".join("01"[is_right] for is_right in greedy),
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--puzzle", choices=SETUPS, default="word-problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--models", default=FIRST_MODELS, help="policy and value model of the searches; made only if these"
    )
    parser.add_argument("--methods", default="", help="with commas; the first is what others are compared with")
    parser.add_argument("--budgets", help="with commas")
    parser.add_argument(
        "--validation", action="store_true", help="compare searches on problems that are no test problems"
    )
    parser.add_argument("--searches", action="store_true")
    parser.add_argument("--collect", default="", help=f"of {', '.join(COLLECTING)}, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(given.folder / f"{given.puzzle}-{given.seed}", given.puzzle, given.seed)
    bench.folder.mkdir(parents=True, exist_ok=True)
    if given.collect or given.models == FIRST_MODELS:
        bench.make_first()
    if given.searches:
        members = bench.sets.validation if given.validation else bench.sets.test
        policy, value = given.models.split(",")
        bench.judge_scores(members[:300], policy, value)
        budgets = [int(text) for text in given.budgets.split(",")] if given.budgets else bench.setup.budgets
        bench.compare_searches(members, policy, value, budgets, given.methods)
    for how in filter(None, given.collect.split(",")):
        bench.self_train(how)


if __name__ == "__main__":
    main()
