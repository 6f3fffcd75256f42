"""Tasks made from tasksets of the package `verifiers` (0.4), where it is installed: a taskset's
tasks are problems, and their rewards verify solutions.

A problem's true answer is its task, as JSON: its class and its data, which no search sees. A
solution is scored as a finished conversation of one turn; a task whose rewards need a runtime (a
container with files, say) is undecided. The package is imported when it is needed.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, ClassVar

from restmcts.adapters.files.verifiers_traces import prompt_text, trace_record
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.task import TASKS, Judgement, Task, Tools, judged
from restmcts.errors import InputError

KIND = "verifiers"
PACKAGE = "verifiers.v1"


class VerifiersTask(Task):
    """Problems of a taskset of `verifiers`."""

    states_answers: ClassVar[bool] = False

    def verify(self, check: Check, tools: Tools) -> Judgement:
        """Return what the rewards of the problem's task say: the score is their weighted mean, cut
        to [0, 1], and right is all of them.
        """
        try:
            task = _task(json.loads(check.answer or ""))
        except (ValueError, KeyError, TypeError):
            return judged(Verdict.UNDECIDED, "tests", "the problem holds no task of verifiers")
        rewards = task.hooks("reward")
        if any(map(_needs_runtime, rewards)):
            return judged(Verdict.UNDECIDED, "tests", "a reward needs a runtime, which there is not")
        record = trace_record("solution", check.question, [(check.solution, False)], None)
        record |= {"rewards": {}}
        trace = _package().WireTrace.model_validate(record)
        asyncio.run(task.score(trace))
        found = [reward for reward in trace.rewards.values() if reward is not None]
        total = sum(reward.weight for reward in found)
        if len(found) < len(trace.rewards) or total <= 0:
            return judged(Verdict.UNDECIDED, "tests", "the task gave no reward")
        score = min(max(trace.reward / total, 0.0), 1.0)
        shown = ", ".join(f"{name} {reward.score:g}" for name, reward in trace.rewards.items())
        return Judgement(Verdict.RIGHT if score == 1.0 else Verdict.WRONG, score, "tests", shown)


def taskset_rows(name: str) -> Iterator[dict[str, Any]]:
    """Yield the tasks of an installed taskset as rows of problems, in order.

    Raises:
        InputError: if the package or the taskset is not installed, or a task asks nothing.
    """
    loaders = _module("verifiers.v1.utils.loaders")
    try:
        config = loaders.taskset_config_type(name)(id=name)
        tasks = iter(loaders.load_taskset(config))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"taskset {name}: {str(error).splitlines()[0]}") from error
    for number, task in enumerate(tasks, start=1):
        data = task.data.model_dump(mode="json", exclude_defaults=True)
        question = prompt_text(data)
        if not question:
            raise InputError(f"taskset {name}: task {number} has no prompt; its conversation begins otherwise")
        named = f"{type(task).__module__}:{type(task).__qualname__}"
        yield {"question": question, "answer": json.dumps({"task": named, "data": data}), "kind": KIND}


def _task(stored: Any) -> Any:
    module, _, name = stored["task"].partition(":")
    _package()
    kind = getattr(import_module(module), name)
    return kind(kind.data_type().model_validate(stored["data"]))


def _needs_runtime(reward: Callable[..., object]) -> bool:
    runtime = inspect.signature(reward).parameters.get("runtime")
    return runtime is not None and runtime.default is inspect.Parameter.empty


def _package() -> Any:
    return _module(PACKAGE)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"the package verifiers is not installed here ({error}); pip install verifiers") from error


TASKS.add(KIND, VerifiersTask())
