"""The project's errors: one root, one category per way out, each saying whether a retry can
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


class ModelError(RestMctsError):
    """A model cannot be loaded, or cannot do what is asked of it."""


class LogProbsNotToldError(ModelError):
    """A policy does not tell the log-probabilities of its tokens, or of the alternatives to
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


class StorageError(RestMctsError):
    """A database, a bucket or a disk did not take or give back what it should; a retry may help."""

    retryable = True


class CorruptArtifactError(RestMctsError):
    """An artifact's bytes do not agree with its manifest."""
