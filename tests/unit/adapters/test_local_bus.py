"""The bus of one process: merged, models last, and no malformed message stops it."""

import threading
import time

import pytest
from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceTrees, ProposeWaitingSteps, TrainPolicy
from restmcts.messages.events import RequestsAnswered
from restmcts.messages.routes import MESSAGES


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.dead: list[tuple[str, str, str]] = []
        self.bus = LocalBus(dict.fromkeys(MESSAGES, self.seen.append), lambda *letter: self.dead.append(letter))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_equal_messages_are_delivered_once_and_models_are_called_last(recorder: Recorder) -> None:
    recorder.bus.publish(
        [ProposeWaitingSteps(), AdvanceTrees(tree_ids=(1,)), ProposeWaitingSteps(), AdvanceTrees(tree_ids=(2,))]
    )
    recorder.bus.publish([RequestsAnswered()])
    recorder.bus.run()
    assert recorder.seen == [AdvanceTrees(tree_ids=(1, 2)), RequestsAnswered(), ProposeWaitingSteps()]
    recorder.bus.run()
    assert len(recorder.seen) == 3


@pytest.mark.parametrize("name", [*MESSAGES, "", "search.nothing", "nowhere.at_all", "\x00"])
def test_a_malformed_message_becomes_a_dead_letter_and_the_bus_lives(name: str, recorder: Recorder) -> None:
    for body in ("", "{", '{"surprise": 1}', "[1]"):
        recorder.bus.publish_raw(name, body)
    recorder.bus.publish_raw(AdvanceTrees.name, '{"tree_ids": [4]}')
    recorder.bus.run()
    assert recorder.seen == [AdvanceTrees(tree_ids=(4,))]
    assert [letter[:2] for letter in recorder.dead] == [(name, body) for body in ("", "{", '{"surprise": 1}', "[1]")]
    assert all(reason and "\n" not in reason for *_, reason in recorder.dead)


def test_training_goes_on_beside_the_others() -> None:
    searched = threading.Event()
    handlers = {TrainPolicy.name: lambda _: searched.wait(10) or pytest.fail("training held up the search")}
    bus = LocalBus({**handlers, AdvanceTrees.name: lambda _: searched.set()}, lambda *_: None)
    bus.publish([TrainPolicy(phase_id=1), AdvanceTrees(tree_ids=(1,))])
    bus.run()
    bus.close()
    assert searched.is_set()


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_trainings_as_allowed_go_on_at_once(at_once: int) -> None:
    lock, under_way, most = threading.Lock(), [], []

    def train(message: TrainPolicy) -> None:
        with lock:
            under_way.append(message)
            most.append(len(under_way))
        time.sleep(0.2)
        with lock:
            under_way.remove(message)

    bus = LocalBus({TrainPolicy.name: train}, lambda *_: None, None, at_once)
    bus.publish([TrainPolicy(phase_id=number) for number in range(3)])
    bus.run()
    bus.close()
    assert len(most) == 3 and max(most) == at_once


def test_an_error_of_a_handler_ends_the_delivery_and_what_waits_goes_on_waiting() -> None:
    seen: list[Message] = []

    def fail(_: Message) -> None:
        raise OSError("gone")

    bus = LocalBus({AdvanceTrees.name: fail, ProposeWaitingSteps.name: seen.append}, lambda *_: None)
    bus.publish([AdvanceTrees(tree_ids=(1,)), ProposeWaitingSteps()])
    with pytest.raises(OSError, match="gone"):
        bus.run()
    bus.run()
    assert seen == [ProposeWaitingSteps()]


def test_an_interrupt_ends_the_run_between_two_messages_also_while_something_trains() -> None:
    interrupted, trained = threading.Event(), threading.Event()
    seen: list[Message] = []
    handlers = {AdvanceTrees.name: lambda message: (seen.append(message), interrupted.set())}
    bus = LocalBus({**handlers, ProposeWaitingSteps.name: seen.append}, lambda *_: None, interrupted)
    bus.publish([AdvanceTrees(tree_ids=(1,)), ProposeWaitingSteps()])
    with pytest.raises(KeyboardInterrupt):
        bus.run()
    assert seen == [AdvanceTrees(tree_ids=(1,))]

    interrupted.clear()
    waiting = LocalBus({TrainPolicy.name: lambda _: trained.wait(10)}, lambda *_: None, interrupted)
    waiting.publish([TrainPolicy(phase_id=1)])
    threading.Timer(0.1, interrupted.set).start()
    with pytest.raises(KeyboardInterrupt):
        waiting.run()
    assert not trained.is_set()
    trained.set()
