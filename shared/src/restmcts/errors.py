"""The project's errors: one root, one category per remedy, each saying whether a retry can
help.
"""


class RestMctsError(Exception):
    """Root of all errors that a user may see as one line.

    `exit_code` is the command line's: 1 for a failure, 2 for bad input. `retryable` says whether
    the same call may succeed later.
    """

    exit_code = 1
    retryable = False


class InputError(RestMctsError):
    """What the user gave (a file, a line, a setting, a path) cannot be used as it is."""

    exit_code = 2


class NotFoundError(InputError):
    """A run, tree or other record that is asked for by its name or number is not there."""


class UnknownEntryError(InputError):
    """Nothing is registered under a name: the plugin that brings it is not installed here."""


class ModelError(RestMctsError):
    """A model cannot be loaded, or cannot do what is asked of it."""


class MissingLogProbsError(ModelError):
    """A policy does not return the log-probabilities of its tokens, or of the alternatives to
    them, where they are asked for.
    """


class CheckpointError(RestMctsError):
    """A checkpoint that a run names cannot be loaded; nothing that needs it can go on."""


class ServerUnavailableError(RestMctsError):
    """A model server is down, busy, refuses the token, or serves another model; requests to it
    wait.
    """

    retryable = True


class TrainingError(RestMctsError):
    """A training job cannot be done with the data or the machine it was given."""


class MissingMachinesError(RestMctsError):
    """Fewer machines are there than train a model together; its training waits."""

    retryable = True


class StorageError(RestMctsError):
    """A database, a bucket or a disk did not take or give back what it should; a retry may help."""

    retryable = True


class MissingArtifactError(StorageError):
    """A bucket answers, and has no such artifact."""


class UnstorableError(StorageError):
    """A database does not take these values, however often they are sent."""

    retryable = False


class CorruptArtifactError(RestMctsError):
    """An artifact's bytes do not agree with its manifest."""


LEAVING = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a process. All else that a model, a tokenizer or a parser raises is its own failure:
errors of libraries in other languages need not be of the class Exception."""


def is_unavailable(error: BaseException) -> bool:
    """Return whether something that a run needs is not available now, but may be later: a model,
    an artifact, a store, a plugin, machines.
    """
    wanting = (CheckpointError, ServerUnavailableError, StorageError, CorruptArtifactError, UnknownEntryError)
    return isinstance(error, (*wanting, MissingMachinesError)) and not isinstance(error, UnstorableError)


def is_retryable(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return isinstance(error, RestMctsError) and error.retryable


def reason_of(error: BaseException) -> str:
    """Return an error in one line for people: its class too, where it is none of ours."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, RestMctsError) else f"{type(error).__name__}: {text}"
