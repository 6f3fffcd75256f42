"""Commands: what a service is asked to do, in the imperative."""

from typing import ClassVar

from restmcts.messages.base import Message, PhaseMessage, RunMessage, TreesMessage


class ProposeWaitingSteps(Message):
    """search -> policy: requests to the policy wait."""

    name: ClassVar[str] = "policy.propose_steps"


class ScoreWaitingSteps(Message):
    """search -> prm: requests to the value model wait."""

    name: ClassVar[str] = "prm.score_steps"


class AdvanceTrees(TreesMessage):
    """coordinator -> search: begin these trees, or go on with what their answered requests
    allow.
    """

    name: ClassVar[str] = "search.advance_trees"


class LabelTrees(TreesMessage):
    """search -> labels: these trees have ended; verify and label them."""

    name: ClassVar[str] = "labels.label_trees"


class AnswerWaitingCalls(Message):
    """search -> labels: calls of tools wait."""

    name: ClassVar[str] = "labels.answer_calls"


class WriteDataset(PhaseMessage):
    """coordinator -> labels: write the dataset that this training phase needs."""

    name: ClassVar[str] = "labels.write_dataset"


class TrainPolicy(PhaseMessage):
    """coordinator -> trainer: train the policy of this phase."""

    name: ClassVar[str] = "trainer.train_policy"


class TrainValue(PhaseMessage):
    """coordinator -> trainer: train the value model of this phase."""

    name: ClassVar[str] = "trainer.train_value"


class EvaluateValues(PhaseMessage):
    """coordinator -> prm: evaluate the value model of this promotion beside the promoted one."""

    name: ClassVar[str] = "prm.judge_values"


class AdvanceRun(RunMessage):
    """CLI or clock -> coordinator: begin what can begin in this run."""

    name: ClassVar[str] = "coordinator.advance_run"
