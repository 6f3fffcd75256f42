"""Commands whose arguments and options are the fields of one typed document."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, TypeVar, get_type_hints

D = TypeVar("D")


def takes_document(document: Callable[..., D]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the fields of a document as arguments and options.

    Args:
        document: a dataclass whose fields are annotated as typer has it, with their defaults.

    The command takes the document as its first parameter; what else it takes comes after the
    document's fields.
    """
    hints: dict[str, Any] = get_type_hints(document, include_extras=True)
    defaults = {field.name: field.default for field in fields(document)}  # type: ignore[arg-type]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def call(**typed: object) -> None:
            command(document(**{name: typed.pop(name) for name in defaults}), **typed)

        signature = inspect.signature(command)
        own = [one.replace(kind=one.KEYWORD_ONLY) for one in list(signature.parameters.values())[1:]]
        parameters = [*(_parameter(name, hints[name], default) for name, default in defaults.items()), *own]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=annotation)
