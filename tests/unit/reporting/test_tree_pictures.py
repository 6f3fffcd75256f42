"""The picture of a tree in reports, and what is said of it."""

from restmcts.reporting.tree_pictures import DrawnNode, DrawnTree, draw_tree, tree_legend


def test_the_picture_of_a_tree_shows_both_values_and_says_what_is_in_it_alone() -> None:
    root = DrawnNode("", None, 4, None)
    scored, labelled = DrawnNode("a\n", 0.3, 3, 0), DrawnNode("b\n", None, 2, 0, "right", quality_value=0.875)
    both = DrawnNode("c\n", 0.6, 1, 0, "wrong", is_decisive=True, quality_value=0.125)
    inferred = "the value that was inferred once the answers were verified"
    cases = {
        (root, scored): ("The bar is V, the value in the search, from 0 to 1.", 1, 0),
        (root, labelled): (f"The bar is v, {inferred}, from 0 to 1; ✓ is a right answer.", 1, 0),
        (root, scored, both): (
            f"The bar is V, the value in the search, from 0 to 1; v is {inferred}; ✗ is a wrong answer; a dashed circle "
            "marks a decisive step: the problem could be solved before it, and after it every end is wrong.",
            2,
            1,
        ),
        (root, DrawnNode("d\n", None, 1, 0)): ("", 0, 0),
    }
    for nodes, (legend, num_bars, num_inferred) in cases.items():
        tree = DrawnTree("q", nodes)
        svg = draw_tree(tree)
        assert tree_legend(tree) == legend
        assert (svg.count('class="bar"'), svg.count(">v 0.12<")) == (num_bars, num_inferred)
