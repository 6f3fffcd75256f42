"""What is said of verdicts that no true answer gives."""

from restmcts.domain.truth.ledger import LedgerEntry, RunTruth, summarise_truth
from restmcts.reporting.truth import truth_document, truth_in_words


def truth(*, with_probe: bool) -> RunTruth:
    flipping = [LedgerEntry(f"q{n}", number, "a" if number == 1 or n else "b") for number in (1, 2) for n in range(10)]
    flipping.append(LedgerEntry("open", 2, None))
    probe = [LedgerEntry(f"p{n}", 2, "a", 0.5, is_probe=True) for n in range(10)] if with_probe else []
    return RunTruth("votes", with_probe, summarise_truth([*flipping, *probe]))


def test_a_run_without_a_probe_is_unchecked_in_words_and_in_json() -> None:
    found = truth(with_probe=False)
    words, document = truth_in_words(found), truth_document(found)
    assert words["truth"].startswith("votes, unchecked")
    assert (
        words["truth (2)"]
        == "10 of 11 trees decided; 1 of 10 answers flipped (10.0 % [1.8, 40.4]); 1 problem quarantined"
    )
    assert document is not None and document["checked"] is False


def test_a_probe_says_how_many_verdicts_are_true() -> None:
    words = truth_in_words(truth(with_probe=True))
    assert words["truth"] == "votes"
    assert (
        "50.0 % ± 0.0 of the probe's verdicts are true; 100.0 % [72.2, 100.0] of the probe is decided"
        in words["truth (2)"]
    )


def test_of_true_answers_nothing_is_said() -> None:
    assert truth_in_words(None) == {} and truth_document(None) is None
