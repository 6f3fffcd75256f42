"""Sends a notification to a command of the shell and to a web address, each within a bounded time.

What fails is the caller's to log: nothing here raises.
"""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from restmcts.domain.text import escaped_text
from restmcts.errors import reason_of
from restmcts.settings import NotificationSettings

MAX_REASON_CHARACTERS = 300
TEXT = "RESTMCTS_TEXT"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a notification did not go out, or nobody knows whether it did.

    Attributes:
        reason: as a sentence.
        may_be_sent: no answer came in time: sent again, it might arrive twice.
    """

    reason: str
    may_be_sent: bool = False


def send(settings: NotificationSettings, document: str, text: str) -> dict[str, Failure]:
    """Send a notification wherever the settings say; return what failed, by their fields
    "notify_command" and "notify_url".

    Args:
        document: as JSON.
        text: the same in a sentence.
    """
    failed = {"notify_command": _to_command(settings, document, text), "notify_url": _to_address(settings, document)}
    return {name: failure for name, failure in failed.items() if failure is not None}


def _to_command(settings: NotificationSettings, document: str, text: str) -> Failure | None:
    if not settings.notify_command:
        return None
    name, seconds = "the command of RESTMCTS_NOTIFY_COMMAND", settings.notify_seconds
    command = ["/bin/sh", "-c", settings.notify_command]
    try:
        reason = _run(command, document, {**os.environ, TEXT: text}, seconds)
    except subprocess.TimeoutExpired:
        return Failure(f"{name} {_silence(seconds)} and was stopped", may_be_sent=True)
    except (OSError, ValueError) as error:
        reason = f"does not start ({error})"
    return Failure(f"{name} {reason}") if reason is not None else None


def _run(command: list[str], document: str, environment: Mapping[str, str], seconds: float) -> str | None:
    """Run a command; return what went wrong. Files in place of pipes: whatever it leaves running
    keeps nobody waiting.

    Raises:
        subprocess.TimeoutExpired: if it takes longer; it is killed then.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(document.encode())
        given.seek(0)
        child = subprocess.Popen(
            command, stdin=given, stdout=subprocess.DEVNULL, stderr=errors, env=environment, start_new_session=True
        )
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        errors.seek(0)
        said = errors.read(4096).decode(errors="replace").strip()
    if status == 0:
        return None
    return f"ended with {status}" + (f": {escaped_text(said)[:MAX_REASON_CHARACTERS]}" if said else "")


def _silence(seconds: float) -> str:
    return f"gave no answer within {seconds:g} s"


def _to_address(settings: NotificationSettings, document: str) -> Failure | None:
    url = settings.notify_url.get_secret_value()
    if not url:
        return None
    silence = _silence(settings.notify_seconds)
    reasons = [silence]
    thread = threading.Thread(
        target=lambda: reasons.append(_post(url, document, settings.notify_seconds)), name="notification", daemon=True
    )
    thread.start()
    # The library bounds each wait for bytes, and a server may send one after the other.
    thread.join(settings.notify_seconds)
    if not reasons[-1]:
        return None
    return Failure(
        f"{urlsplit(url).hostname}, of RESTMCTS_NOTIFY_URL, {reasons[-1]}", may_be_sent=reasons[-1] == silence
    )


class _NoRedirect(HTTPRedirectHandler):
    """A notification goes where it was sent, or nowhere."""

    def redirect_request(self, *_: object) -> None:
        """Return None: the redirect is then an error."""


def _post(url: str, document: str, seconds: float) -> str:
    """Post a document; return what went wrong, or nothing."""
    try:
        request = Request(url, document.encode(), {"Content-Type": "application/json"})
        build_opener(_NoRedirect).open(request, timeout=seconds).close()
    except HTTPError as error:
        error.close()
        return f"answers with {error.code}"
    except TimeoutError:  # of the answer: while it connects, it is a URLError
        return _silence(seconds)
    except OSError as error:
        return f"is not reached ({reason_of(error)})"
    except (HTTPException, ValueError) as error:  # whose words may hold the address, which is a secret
        return f"is not reached ({type(error).__name__})"
    return ""
