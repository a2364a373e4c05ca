"""An object that takes any call and any attribute, and does nothing."""

from __future__ import annotations

from typing import Any


class Inert:
    """Stands where a task file names a solver, a model or a tool."""

    def __call__(self, *arguments: Any, **_settings: Any) -> Any:
        """Return the function that is decorated, or another inert object."""
        only = len(arguments) == 1 and not _settings
        return arguments[0] if only and callable(arguments[0]) and not isinstance(arguments[0], Inert) else Inert()

    def __getattr__(self, name: str) -> Inert:
        if name.startswith("__"):
            raise AttributeError(name)
        return Inert()

    def __class_getitem__(cls, item: Any) -> type[Inert]:
        return cls

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return ()
