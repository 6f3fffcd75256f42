"""Plain sentences from a report's numbers, whatever they are: what is ahead of what, and
whether that is more than noise.
"""

from collections import defaultdict

from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.stats.separation import is_above_chance
from restmcts.domain.text import counted
from restmcts.reporting.figures import CLAIM_LIMIT, above_or_below, against_noise, leader, percent

from restmcts_cli.reports.run_report_data import Beside, IterationResult, Report, SearchResult, ValueQuality


def summarise(report: Report) -> list[str]:
    """Return the sentences that open the report; they claim a difference only where its
    standard error allows it.
    """
    sentences = [
        *_about_training(report),
        *_about_accuracy(report.iterations, report.mark, report.beside),
    ]
    sentences += [*_about_values(report.values), *_about_search(report.search, report.mark), *report.notes]
    if any(result.greedy is not None for result in report.iterations) or report.search:
        sentences.append(
            f"This is one run with seed {report.seed}: the standard errors are over problems, not over seeds."
        )
    return sentences


def _about_training(report: Report) -> list[str]:
    searched = [result for result in report.iterations if result.num_trees > 0]
    if not searched:
        return []
    num_trees = sum(result.num_trees for result in searched)
    num_solved = sum(result.num_solved for result in searched)
    untrained = [
        f"In iteration {result.iteration} {model} was not trained: {why}."
        for result in searched
        for model, why in result.untrained.items()
    ]
    if num_solved == 0:
        nothing = f"No problem was solved in {counted(num_trees, 'tree')}, so there was nothing to learn from"
        trained = [named for result in report.iterations for named in _trained(result)]
        if not trained:
            return [f"{nothing}: nothing was trained."]
        return [f"{nothing} in them. What was trained: {' and '.join(trained)}.", *untrained]
    return [_about_solved(num_solved, num_trees, report), *untrained]


def _trained(result: IterationResult) -> list[str]:
    """Return what was trained in an iteration, in words."""
    policy, values = counted(result.num_policy_samples, "trace"), counted(result.num_value_samples, "step value")
    found = [f"the policy of iteration {result.iteration} on {policy}"] if result.num_policy_samples else []
    return found + (
        [f"the value model of iteration {result.iteration} on {values}"] if result.num_value_samples else []
    )


def _about_solved(num_solved: int, num_trees: int, report: Report) -> str:
    num_problems = report.solved.n if report.solved is not None else num_trees
    share = f" ({percent(report.solved, report.mark)})" if report.solved is not None and report.claims else ""
    if num_problems == num_trees:
        return f"The search solved {num_solved:,} of {counted(num_trees, 'problem')}{share}."
    trees = f"{num_solved:,} of {counted(num_trees, 'tree')}{share}"
    return f"The search found a right end in {trees}, on {counted(num_problems, 'problem')}."


def _about_accuracy(iterations: tuple[IterationResult, ...], mark: str, beside: Beside) -> list[str]:
    graded = [result for result in iterations if result.greedy is not None]
    if not graded:
        return []
    last = graded[-1]
    assert last.greedy is not None
    problems = counted(last.greedy.estimate.n, "held-out problem")
    sentences = [f"Iteration {last.iteration} answers {percent(last.greedy.estimate, mark)} of {problems} greedily."]
    differences: list[Estimate] = []
    if len(graded) > 1 and graded[0].greedy is not None:
        differences.append(last.greedy.minus(graded[0].greedy))
        reached = f"iteration {graded[0].iteration} ({percent(graded[0].greedy.estimate, mark)})"
        sentences.append(f"That is {above_or_below(differences[-1])} {reached}{against_noise(differences[-1])}.")
    if last.control is not None:
        differences.append(last.greedy.minus(last.control))
        control = (
            f"the control ({percent(last.control.estimate, mark)}), which had as many steps on the demonstrations alone"
        )
        sentences.append(f"It is {above_or_below(differences[-1])} {control}{against_noise(differences[-1])}.")
    if len(differences) == 2:
        sentences.append(_CLAIM if all(d.in_standard_errors >= CLAIM_LIMIT for d in differences) else _NO_CLAIM)
    if last.beside is not None:
        ahead = last.greedy.minus(last.beside)
        other = f"{beside.name} ({percent(last.beside.estimate, mark)}), which {beside.difference}"
        sentences.append(f"It is {above_or_below(ahead)} {other}{against_noise(ahead)}.")
    return sentences


_CLAIM = (
    f"Both differences reach {CLAIM_LIMIT:.0f} standard errors: "
    "in this run the search taught the policy what more of the demonstrations did not."
)
_NO_CLAIM = (
    f"Not both differences reach {CLAIM_LIMIT:.0f} standard errors: this run does not show "
    "that the search taught the policy anything beyond what more of the demonstrations would."
)


def _about_values(values: tuple[ValueQuality, ...]) -> list[str]:
    known = [(quality.name, quality.auc_solvable) for quality in values if quality.auc_solvable is not None]
    return [*_about_auc(known), *_about_siblings(values)] if known else []


def _about_siblings(values: tuple[ValueQuality, ...]) -> list[str]:
    known = [(quality.name, quality.sibling_accuracy) for quality in values if quality.sibling_accuracy is not None]
    if not known:
        return []
    name, accuracy = known[-1]
    return [
        f"Of two next steps after the same ones {name} prefers the one nearer to a right answer "
        f"in {percent(accuracy)} of the pairs (sibling accuracy; 50 % is a guess)."
    ]


def _about_auc(known: list[tuple[str, Figure]]) -> list[str]:
    name, auc = known[-1]
    sentence = (
        f"{name} ranks a partial solution that can still be solved above one that cannot "
        f"with chance {auc.estimate.as_decimal()} (AUC; 0.50 is a guess)"
    )
    by_chance = [] if is_above_chance(auc.estimate) else [f"The values of {name} are not better than chance."]
    if len(known) == 1:
        return [sentence + ".", *by_chance]
    first_name, first_auc = known[0]
    more = auc.minus(first_auc)
    verdict = "more" if more.value > 0.0 else "less" if more.value < 0.0 else "no more and no less"
    return [
        f"{sentence}, {verdict} than {first_name} with {first_auc.estimate.as_decimal()}{against_noise(more)}.",
        *by_chance,
    ]


def _about_search(search: tuple[SearchResult, ...], mark: str) -> list[str]:
    budgets: dict[int, list[SearchResult]] = defaultdict(list)
    for result in search:
        if result.budget_tokens is not None:
            budgets[result.budget_tokens].append(result)
    unlimited = [result for result in search if result.budget_tokens is None]
    return [
        _best_of(budget, results, mark) + _as_good_without(results, unlimited, mark)
        for budget, results in sorted(budgets.items())
        if len(results) > 1
    ]


def _as_good_without(results: list[SearchResult], unlimited: list[SearchResult], mark: str) -> str:
    """Return a sentence if a method without a limit is no worse than the best with one, and
    spends less.
    """
    best = _ranked(results)[0]
    other = _ranked(unlimited)[0] if unlimited else None
    if other is None or other.mean_tokens >= best.mean_tokens:
        return ""
    ahead = other.accuracy.minus(best.accuracy)
    if ahead.value < 0.0:
        return ""
    return (
        f" But {other.method}, at {percent(other.accuracy.estimate, mark)}, is {above_or_below(ahead)} {best.method}"
        f"{against_noise(ahead)}, and spent {other.mean_tokens:,.0f} tokens."
    )


def _ranked(results: list[SearchResult]) -> list[SearchResult]:
    """Return the best first; of equals the cheapest."""
    return sorted(results, key=lambda result: (-result.accuracy.estimate.value, result.mean_tokens))


def _best_of(budget: int, results: list[SearchResult], mark: str) -> str:
    ranked = _ranked(results)
    best, second = ranked[0], ranked[1]
    ahead = best.accuracy.minus(second.accuracy)
    problems = counted(best.accuracy.estimate.n, "problem")
    opening = f"Under a limit of {budget:,} tokens a problem, on {problems}, "
    spent = (
        f"On average {best.method} spent {best.mean_tokens:,.0f} tokens and {second.method} {second.mean_tokens:,.0f}."
    )
    return f"{leader(opening, best.method, second.method, best.accuracy.estimate, ahead, mark)} {spent}"
