"""This project's own learners: importing this module registers all of them."""

from restmcts.domain.learning import awr, decisive, sft, sibling_dpo, tree_pg

__all__ = ["awr", "decisive", "sft", "sibling_dpo", "tree_pg"]
