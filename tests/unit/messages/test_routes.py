"""Every message goes where its name says, survives the wire, and takes nothing that is not its
own.
"""

import json

import pytest
from pydantic import ValidationError
from restmcts.errors import InputError
from restmcts.messages.base import Message, PhaseMessage, Queue, RunMessage, TreesMessage
from restmcts.messages.commands import AdvanceTrees, ProposeWaitingSteps
from restmcts.messages.routes import MESSAGES, body_of, parse, queue_of

every_message = pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES.keys())


def example(kind: type[Message]) -> Message:
    if issubclass(kind, TreesMessage):
        return kind(tree_ids=(3, 1))
    if issubclass(kind, RunMessage):
        return kind(run_id=2)
    return kind(phase_id=5) if issubclass(kind, PhaseMessage) else kind()


def test_every_queue_has_messages() -> None:
    assert {queue_of(name) for name in MESSAGES} == set(Queue)


@every_message
def test_a_message_survives_the_wire(kind: type[Message]) -> None:
    message = example(kind)
    assert parse(kind.name, body_of(message)) == message
    assert parse(kind.name, body_of(message).encode()) == message
    assert json.loads(body_of(message))["schema_version"] == 1


@every_message
@pytest.mark.parametrize(
    "body", ["", "null", "[]", "{", '{"schema_version": 2}', '{"surprise": 1}', '"\\ud800"', "\x00"]
)
def test_a_malformed_body_is_one_line_with_the_name(kind: type[Message], body: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(kind.name, body)
    assert kind.name in str(caught.value) and "\n" not in str(caught.value)


@every_message
def test_a_message_never_changes(kind: type[Message]) -> None:
    with pytest.raises(ValidationError):
        example(kind).schema_version = 1


@pytest.mark.parametrize("name", ["", "search", "search.nothing", "nowhere.advance_trees", "search.advance_trees "])
def test_an_unknown_name_is_bad_input(name: str) -> None:
    with pytest.raises(InputError, match="no message is named"):
        parse(name, "{}")


@pytest.mark.parametrize("tree_ids", [(), ("x",), (1.5,), None, (True, "1x")])
def test_ids_that_are_none_are_refused(tree_ids: object) -> None:
    if tree_ids == ():
        assert AdvanceTrees.merged([AdvanceTrees(tree_ids=())]) == []
        return
    with pytest.raises(InputError):
        parse(AdvanceTrees.name, json.dumps({"tree_ids": tree_ids}))


def test_messages_about_trees_merge_into_one_that_names_each_once() -> None:
    merged = AdvanceTrees.merged([AdvanceTrees(tree_ids=(3, 1)), AdvanceTrees(tree_ids=(1, 2))])
    assert merged == [AdvanceTrees(tree_ids=(3, 1, 2))]
    assert ProposeWaitingSteps.merged([ProposeWaitingSteps(), ProposeWaitingSteps()]) == [ProposeWaitingSteps()]
