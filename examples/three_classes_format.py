"""A reward-model format of one's own: a token classifier with three classes, bad, neutral and good
(as PRM800K labels steps), read at a step's last token; a neutral step is worth a half.

    restmcts evaluate problems.jsonl --policy MODEL --value PRM --plugin three_classes_format.py
"""

from typing import TYPE_CHECKING, Any

from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, continued

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights
    from torch import Tensor


class ThreeClasses(PrmFormat):
    models = "token classifiers of PRM800K's three labels"
    meaning = "probability that the step is good, and half of that it is neutral"
    aggregation = "min"

    def shows_in(self, folder: ModelFolder) -> bool:
        return folder.is_classifier_of("Token") and folder.num_labels == 3

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        return continued(tokenizer, lambda question: f"{question}\n")

    def load(self, weights: "PrmWeights") -> Scoring:
        model = weights.token_classifier()

        def worth(states: "Tensor") -> "Tensor":
            _, neutral, good = model.score(states).softmax(dim=-1).unbind(dim=-1)
            return good + neutral / 2

        return Scoring(model, model.base_model, worth)


PRM_FORMATS.add("three-classes", ThreeClasses())
