"""Notify people once a run is done, failed, paused by itself, or blocked for a while.

A change of state is noted as sent after it was sent: whoever is killed in between sends it again,
and two coordinators may both send it. What cannot be sent is logged and given up after some tries;
no run waits for it.
"""

import json
import logging
import threading
from dataclasses import dataclass, replace
from shlex import quote

from pydantic import SecretStr

from restmcts.adapters.observability.notifications import Failure, send
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads.run_lines import RunLine, Score, run_lines
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.adapters.sql.state import news, token_budget
from restmcts.adapters.sql.state.news import News
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.text import counted
from restmcts.settings import NotificationSettings

log = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = (1.0, 5.0)
_NOBODY = {"notify_command": "", "notify_url": SecretStr("")}


@dataclass(frozen=True, slots=True)
class Notification:
    """What people are notified of.

    Attributes:
        why: it failed, was paused or is blocked; None for a run that is done.
        accuracy_first: of the run's first policy; None if that was not evaluated.
        accuracy_last: of its last one, or of the only method that it evaluates.
        tokens: generated so far.
        command: to look at the run, or to resume it.
        unchecked: whether no probe checks the verdicts that it trained on.
    """

    run: str
    method: str
    state: str
    why: str | None
    accuracy_first: Score | None
    accuracy_last: Score | None
    tokens: int
    command: str
    unchecked: bool = False

    @property
    def text(self) -> str:
        """All of it as a sentence."""
        scores = [score for score in (self.accuracy_first, self.accuracy_last) if score is not None]
        shares = " -> ".join(f"{100 * score.accuracy.value:.1f} %" for score in scores)
        mark = " (unchecked)" if self.unchecked else ""
        accuracy = f", accuracy {shares}{mark} on {counted(scores[-1].num_answers, 'problem')}" if scores else ""
        why = f": {self.why}" if self.why else ""
        return f"restmcts: run {self.run} is {self.state}{why}{accuracy}; {self.command}"

    @property
    def document(self) -> str:
        """All of it as JSON; `text` is the sentence, which chats show as it is."""
        accuracies = {"accuracy_first": self.accuracy_first, "accuracy_last": self.accuracy_last}
        return json.dumps(
            {
                "run": self.run,
                "method": self.method,
                "state": self.state,
                "why": self.why,
                **{name: _figure(score) for name, score in accuracies.items()},
                "unchecked": self.unchecked,
                "tokens": self.tokens,
                "command": self.command,
                "text": self.text,
            }
        )


def _figure(score: Score | None) -> dict[str, float] | None:
    if score is None:
        return None
    return {"accuracy": score.accuracy.value, "right": score.num_right, "problems": score.num_answers}


def notify(
    database: Database,
    settings: NotificationSettings,
    stopping: threading.Event,
    run_id: int | None = None,
    place: str = "",
) -> int:
    """Send what is news of a run, or of all; return of how many.

    Args:
        stopping: ends the pauses between tries.
        place: what a command needs to find the run: " --workdir DIR", or nothing.
    """
    with database.transaction() as transaction:
        news.forget_ended_blocks(transaction)
        found = [one for one in news.news(transaction) if run_id is None or one.id == run_id]
        lines = {line.run.id: line for line in run_lines(transaction)} if found else {}
        unchecked = unchecked_runs(transaction, [one.id for one in found])
    for one in found:
        if settings.notify_command or settings.notify_url.get_secret_value():
            notification = _notification(one, lines.get(one.id), place)
            _send(settings, replace(notification, unchecked=one.id in unchecked), stopping)
        with database.transaction() as transaction:
            news.set_notified(transaction, one.id, one.state)
    return len(found)


def _notification(one: News, line: RunLine | None, place: str) -> Notification:
    first, last, tokens = (line.first, line.last, line.counts.tokens) if line is not None else (None, None, 0)
    why = one.why if one.state != RunState.DONE else None
    return Notification(one.name, one.method, one.state, why, first, last, tokens, _command(one, place))


def _command(one: News, place: str) -> str:
    if one.state != RunState.PAUSED:
        return f"restmcts runs show {quote(one.name)}{place}"
    larger = " --max-tokens LARGER" if token_budget.is_spent(one.why) else ""
    return f"restmcts runs resume {quote(one.name)}{place}{larger}"


def _send(settings: NotificationSettings, notification: Notification, stopping: threading.Event) -> None:
    """Send a notification; what failed is tried again, and that alone. What gave no answer may have
    done its work, and is not.
    """
    failed: dict[str, Failure] = {}
    for pause in (0.0, *SECONDS_BETWEEN_TRIES):
        if pause and stopping.wait(pause):
            break
        tried = send(settings, notification.document, notification.text)
        for unsure in (failure for failure in tried.values() if failure.may_be_sent):
            log.warning(
                "a notification that run %s is %s may not have arrived: %s",
                *(notification.run, notification.state, unsure.reason),
            )
        failed = {name: failure for name, failure in tried.items() if not failure.may_be_sent}
        if not failed:
            return
        settings = settings.model_copy(update={name: empty for name, empty in _NOBODY.items() if name not in failed})
    reasons = "; ".join(failure.reason for failure in failed.values())
    log.warning("no notification was sent that run %s is %s: %s", notification.run, notification.state, reasons)
