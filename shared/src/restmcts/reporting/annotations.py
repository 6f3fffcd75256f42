"""What people have said of a run, in words."""

from restmcts.domain.labels.annotations import AnnotationCounts


def annotations_in_words(found: AnnotationCounts | None) -> dict[str, str]:
    """Return a line for people by its name; empty where nobody has said anything."""
    if found is None:
        return {}
    steps, answers, trees, people = (
        f"{number:,} {one if number == 1 else more}"
        for number, one, more in (
            (found.num_steps, "step", "steps"),
            (found.num_answers, "answer", "answers"),
            (found.num_trees, "tree", "trees"),
            (found.num_people, "person", "people"),
        )
    )
    line = f"{steps} and {answers} in {trees}, by {people}"
    if found.num_compared:
        line += f"; {found.num_alike:,} of {found.num_compared:,} answers have the verdict that people give them"
    return {"annotations": line}
