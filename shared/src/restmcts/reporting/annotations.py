"""What people have said of a run, in words."""

from restmcts.domain.labels.annotations import AnnotationCounts
from restmcts.domain.text import counted


def annotations_in_words(found: AnnotationCounts | None) -> dict[str, str]:
    """Return a line for people by its name; empty where nobody has said anything."""
    if found is None:
        return {}
    steps, answers, trees, people = (
        counted(found.num_steps, "step"),
        counted(found.num_answers, "answer"),
        counted(found.num_trees, "tree"),
        counted(found.num_people, "person", "people"),
    )
    line = f"{steps} and {answers} in {trees}, by {people}"
    if found.num_compared:
        line += f"; {found.num_alike:,} of {found.num_compared:,} answers have the verdict that people give them"
    return {"annotations": line}
