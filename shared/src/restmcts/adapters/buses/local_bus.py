"""The bus of one process: messages wait in memory, equal ones are merged, handlers run one after
the other.

Models are called last, when every other handler has nothing to do, so that one call serves all
trees that wait. Training, which waits for processes of its own, goes on beside. What is lost when
this process ends is woken again at the next start, from the database.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from restmcts.adapters.workers.service import Handler, Handlers
from restmcts.errors import InputError
from restmcts.messages.base import Message, Queue
from restmcts.messages.routes import parse, queue_of

DeadLetter = Callable[[str, str, str], None]
MODEL_QUEUES = (Queue.POLICY, Queue.PRM)
SECONDS_BETWEEN_LOOKS = 0.25


class LocalBus:
    """Delivers every message to the handler of its wire name.

    Invariants: but for training, handlers never run side by side or inside one another; the first
    error ends `run`.

    Args:
        interrupted: once it is set, `run` ends before the next message.
        trainings_at_once: trainings that go on side by side; further ones wait for their turn.
    """

    def __init__(
        self,
        handlers: Handlers,
        dead_letter: DeadLetter,
        interrupted: threading.Event | None = None,
        trainings_at_once: int = 1,
    ) -> None:
        self._handlers = handlers
        self._dead_letter = dead_letter
        self._waiting: dict[str, list[Message]] = {}
        self._changed = threading.Condition()
        self._lanes = ThreadPoolExecutor(trainings_at_once, thread_name_prefix="training")
        self._training: set[Future[None]] = set()
        self._interrupted = interrupted or threading.Event()

    def publish(self, messages: Sequence[Message]) -> None:
        """Queue messages, from any thread."""
        with self._changed:
            for message in messages:
                self._waiting.setdefault(message.name, []).append(message)
            self._changed.notify()

    def publish_raw(self, name: str, body: str) -> None:
        """Queue a message as it came over a wire; a malformed one goes to the dead letters."""
        try:
            self.publish([parse(name, body)])
        except InputError as error:
            self._dead_letter(name, body, str(error))

    def run(self) -> None:
        """Deliver until nothing waits and nothing trains.

        Raises:
            KeyboardInterrupt: before the next message, once it was interrupted.
            Exception: what a handler raised first; messages that wait then go on waiting.
        """
        while (messages := self._next()) is not None:
            for message in messages:
                self._check_interrupt()
                handler = self._handlers[message.name]
                if queue_of(message.name) == Queue.TRAINER:
                    self._train(handler, message)
                else:
                    handler(message)

    def _next(self) -> list[Message] | None:
        """Return merged messages of one name, waiting for them while something trains; None if
        nothing will come.
        """
        with self._changed:
            while True:
                self._check_interrupt()
                for future in [future for future in self._training if future.done()]:
                    self._training.discard(future)
                    future.result()
                if self._waiting:
                    name = min(self._waiting, key=lambda name: queue_of(name) in MODEL_QUEUES)
                    messages = self._waiting.pop(name)
                    return type(messages[0]).merged(messages)
                if not self._training:
                    return None
                self._changed.wait(SECONDS_BETWEEN_LOOKS)

    def _check_interrupt(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt

    def _train(self, handler: Handler, message: Message) -> None:
        future = self._lanes.submit(handler, message)
        self._training.add(future)
        future.add_done_callback(lambda _: self.publish([]))

    def close(self) -> None:
        """Take no more training and wait for the end of what trains; whoever trains must have
        been asked to stop.
        """
        self._lanes.shutdown(cancel_futures=True)
