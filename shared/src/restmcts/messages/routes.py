"""Every message by wire name, and the queue that each goes to."""

import json

from pydantic import ValidationError

from restmcts.errors import InputError
from restmcts.messages import commands, events
from restmcts.messages.base import Message, Queue


def queue_of(name: str) -> Queue:
    """Return the queue of a wire name, its part before the dot."""
    return Queue(name.partition(".")[0])


def parse(name: str, body: str | bytes) -> Message:
    """Return the message with that wire name and JSON body.

    Raises:
        InputError: if no message has that name or the body does not fit it.
    """
    if name not in MESSAGES:
        raise InputError(f"no message is named {name!r}")
    try:
        return MESSAGES[name].model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InputError(f"message {name}: {where}: {first['msg']}") from error


def body_of(message: Message) -> str:
    """Return a message's JSON body, keys sorted so that equal messages have equal bodies."""
    return json.dumps(message.model_dump(mode="json"), sort_keys=True)


MESSAGES: dict[str, type[Message]] = {
    message.name: message
    for message in (
        commands.AdvanceRun,
        commands.AdvanceTrees,
        commands.AnswerWaitingCalls,
        commands.EvaluateValues,
        commands.LabelTrees,
        commands.ProposeWaitingSteps,
        commands.ScoreWaitingSteps,
        commands.TrainPolicy,
        commands.TrainValue,
        commands.WriteDataset,
        events.CheckpointTrained,
        events.DatasetWritten,
        events.RequestsAnswered,
        events.TreesLabelled,
        events.ValuesJudged,
    )
}
