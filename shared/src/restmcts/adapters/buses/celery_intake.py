"""How workers take messages in: whatever Celery itself would stumble over is refused first, and the
worker lives.

What Celery 5.6 and 5.7 do without this: a body that is no JSON, or an envelope without its parts,
ends the worker; a message without a task's name, or with one that is not known, is dropped with a
line in the log; a worker whose Redis was away when it acknowledged a message takes no other one.
"""

import base64
import json
import logging
from collections.abc import Callable

from celery.worker.consumer import Consumer
from kombu.message import Message
from kombu.transport import redis, virtual

from restmcts.errors import InputError
from restmcts.messages.base import Queue
from restmcts.messages.routes import parse, queue_of

log = logging.getLogger(__name__)
Refuse = Callable[[str, str, str], None]
"""Keeps a message as a dead letter: its name as far as known, its text, and the reason."""

UNKNOWN = "?"


class ForgetfulQoS(redis.QoS):
    """Forgets a message whose acknowledgement did not reach Redis: Redis gives it out again.

    Kombu holds on to it: with a prefetch of one the worker then takes nothing any more, and has no
    socket left on which to notice.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


def transport_for(refuse: Refuse) -> type[redis.Transport]:
    """Return a Redis transport that refuses what is no message at all."""

    class CarefulChannel(redis.Channel):
        QoS = ForgetfulQoS

        def _brpop_read(self, **options: object) -> object:
            try:
                return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
            except json.JSONDecodeError as error:
                refuse(UNKNOWN, error.doc, f"not JSON: {error.msg}")
            except RecursionError:
                refuse(UNKNOWN, "", "JSON nested too deeply")
            return True

    class CarefulTransport(redis.Transport):
        Channel = CarefulChannel

        def _deliver(self, message: object, queue: str) -> None:
            fault = _envelope_fault(message)
            if fault is None:
                super()._deliver(message, queue)  # type: ignore[no-untyped-call]
            else:
                refuse(UNKNOWN, json.dumps(message), fault)

    return CarefulTransport


def consumer_for(queue: Queue, refuse: Refuse) -> type[Consumer]:
    """Return a consumer that refuses messages which are not of its queue or not as they must be."""

    class CarefulConsumer(Consumer):  # type: ignore[misc]
        def create_task_handler(self, *args: object, **kwargs: object) -> Callable[[Message], None]:
            handle = super().create_task_handler(*args, **kwargs)

            def receive(message: Message) -> None:
                try:
                    _check(message, queue)
                    handle(message)
                except self.connection_errors:
                    raise
                except Exception as error:
                    refuse(
                        str(message.headers.get("task", UNKNOWN)), _text(message), f"{type(error).__name__}: {error}"
                    )
                    if not message.acknowledged:
                        message.ack_log_error(log, self.connection_errors)  # type: ignore[no-untyped-call]

            return receive

        def on_invalid_task(self, body: object, message: Message, exc: Exception) -> None:
            raise exc

        def on_decode_error(self, message: Message, exc: Exception) -> None:
            raise exc

    return CarefulConsumer


def _envelope_fault(message: object) -> str | None:
    """Return what is wrong with the envelope that kombu is about to open, or None."""
    if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
        return "no envelope with properties"
    properties = message["properties"]
    delivery = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(delivery, dict):
        return "no delivery_tag or delivery_info in the envelope"
    if not {"exchange", "routing_key"} <= delivery.keys() or not isinstance(message.get("headers", {}), dict):
        return "no exchange, routing_key or headers in the envelope"
    if properties.get("body_encoding") not in (None, "base64") or not isinstance(message.get("body"), str):
        return "a body that is not text, or in an unknown encoding"
    try:
        base64.b64decode(message["body"] if properties.get("body_encoding") else "")
    except ValueError as error:
        return f"a body that is not base64: {error}"
    return None


def _check(message: Message, queue: Queue) -> None:
    """Raise InputError unless this is a message for the queue, with its fields as keyword
    arguments.
    """
    name, payload = message.headers.get("task"), message.payload
    if not isinstance(name, str) or not isinstance(message.headers.get("id"), str):
        raise InputError("no task's name and id in the headers")
    if message.headers.get("eta") or message.headers.get("expires"):
        raise InputError("a time to be handled at, or until: wake-ups have none")
    if not isinstance(payload, list) or len(payload) != 3 or payload[0] != [] or not isinstance(payload[1], dict):
        raise InputError("the body is not [[], {fields}, {options}]")
    parse(name, json.dumps(payload[1]))
    if queue_of(name) != queue:
        raise InputError(f"message {name} does not belong in the queue {queue}")


def _text(message: Message) -> str:
    body = message.body
    return body.decode("utf-8", "backslashreplace") if isinstance(body, bytes) else str(body)
