"""Whether a model is available and fits what is asked of it, as far as this machine can find out
before a run is stored. Workers on other machines may reach what this one cannot: only what the hub
itself denies is refused.
"""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

from restmcts.errors import InputError

from restmcts_cli.reports.shown_tables import print_note

SECONDS = 10.0
LATER = "a run whose workers cannot have it is blocked, and continues by itself once they can"


def check_hub_id(model: str) -> None:
    """Ask the hub for a model; where it does not answer, say so.

    Raises:
        InputError: if the hub has no such model.
    """
    try:
        from huggingface_hub import HfApi, try_to_load_from_cache
        from huggingface_hub.errors import RepositoryNotFoundError
    except ModuleNotFoundError:
        print_note(f"{model} is not checked, as the hub's client is not installed here; {LATER}")
        return

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        HfApi().model_info(model, timeout=SECONDS)
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{model}: no such folder, and the hub has no such model, or gives it to nobody who is not logged in "
            "(HF_TOKEN); check the name"
        ) from error
    except Exception as error:  # The client raises its transport's own classes.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print_note(f"{model} is not checked, as the hub does not answer here ({reason}); {LATER}")


def check_context(policy: str, max_step_tokens: int) -> None:
    """Let a step fit the context of a policy that is a folder of this machine; what is not known
    here is not refused.

    Raises:
        InputError: if no step can, however short the question is.
    """
    try:
        config = json.loads((Path(policy) / "config.json").read_text(encoding="utf-8"))
        context = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(context, int) and context <= max_step_tokens:
        raise InputError(
            f"{policy} reads at most {context} tokens, and a step may take {max_step_tokens}: give fewer, e.g. "
            f"--max-step-tokens {max(context // 16, 1)} --max-solution-tokens {context // 2}"
        )


def check_server(url: str) -> None:
    """Look whether anybody listens at a server's address; if not, say so."""
    parts = urlsplit(url.partition("+")[2] or url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        print_note(f"nobody answers at {parts.hostname}:{port} from here ({reason}); {LATER}")
