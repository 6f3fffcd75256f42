"""A server of scores after the published schemas of vLLM's `/pooling` and SGLang's `/classify`,
over a model in this process, with faults on demand.

It replaces servers that need a GPU: the protocol is written from their documents, the model
behind it is a real one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from restmcts.modeling.prm.loading import LoadedPrm
from restmcts.testing.policy_servers import PolicyServer


@dataclass
class ScoringServer(PolicyServer):
    """The server; use as a context manager. A PRM is scored by token, an outcome reward model by
    text.

    Attributes:
        prm: whose scores it gives.
        good_class: column of the score, as the model's head has it; None: the model has one output.
        pooling_type: "ALL": a row a token; "STEP": one for each token `step_tag_id`; "LAST": one
            for the last token.
        step_tag_id: of STEP pooling.
    """

    prm: LoadedPrm | None = None
    good_class: int | None = None
    pooling_type: Literal["ALL", "STEP", "LAST"] = "ALL"
    step_tag_id: int | None = None
    tasks: list[str | None] = field(default_factory=list)

    def scoring_uri(self, route: str, query: str) -> str:
        """Return a reference to this server by one route."""
        return f"{route}+http://{self.host}?model={self.model}{query}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and the document that a route gives."""
        routes: dict[str, Callable[[dict[str, Any]], tuple[int, Any]]] = {
            "/pooling": self._pooling,
            "/classify": self._classify,
        }
        return routes[path](body) if path in routes else (404, {"error": "no such route"})

    def _pooling(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids = body["input"]
        if body["model"] != self.model:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        if len(ids) > self.max_context:
            said = f"This model's maximum context length is {self.max_context} tokens. However, you requested {len(ids)} tokens."
            return 400, {"error": {"message": said, "type": "BadRequestError", "code": 400}}
        self.tasks.append(body.get("task"))
        rows = self._rows(ids, activated=body.get("use_activation", True))
        data = rows[-1] if self.pooling_type == "LAST" else rows
        item = {"index": 0, "object": "pooling", "data": data}
        usage = {"prompt_tokens": len(ids), "total_tokens": len(ids)}
        return 200, {
            "id": "pool-1",
            "object": "list",
            "created": 0,
            "model": self.model,
            "data": [item],
            "usage": usage,
        }

    def _classify(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids = body["input_ids"]
        if len(ids) > self.max_context:
            said = (
                f"The input ({len(ids)} tokens) is longer than the model's context length ({self.max_context} tokens)."
            )
            return 400, {"error": {"message": said}}
        return 200, {
            "embedding": self._rows(ids, activated=False)[-1],
            "meta_info": {"id": "1", "prompt_tokens": len(ids)},
        }

    @torch.inference_mode()
    def _rows(self, ids: list[int], *, activated: bool) -> list[list[float]]:
        """Return probabilities or logits of the classes, `[rows, classes]`."""
        assert self.prm is not None
        tokens = torch.tensor([ids])
        scores = self.prm.reader.values_at(tokens, None, torch.ones_like(tokens, dtype=torch.bool)).double()
        if self.good_class is None:
            rows = (scores if activated else torch.logit(scores)).unsqueeze(1)
        else:
            good_first = torch.stack([scores, 1 - scores], dim=1)
            rows = good_first if self.good_class == 0 else good_first.flip(1)
            rows = rows if activated else rows.log()
        if self.pooling_type == "STEP":
            rows = rows[tokens[0] == self.step_tag_id] if self.step_tag_id is not None else rows
        found: list[list[float]] = rows.tolist()
        return found
