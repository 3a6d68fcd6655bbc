"""The exception tree. Rooms raise these; the rim translates foreign errors into them.

HaltlineError
├── InputError            a person can mend it: names where, what was found and the fix (exit code 2)
│   ├── ConfigError       a setting
│   ├── DatasetError      a file of a data set or snapshot
│   ├── BundleError       a model bundle that must not be served
│   └── MessageError      a payload that breaks the line contract
├── CameraError           the camera cannot deliver
├── ModelError            inference failed or gave what cannot be judged
├── LineError             the line's messages cannot be sent
└── StorageError          evidence cannot be written
"""

from __future__ import annotations


class HaltlineError(Exception):
    """Anything Haltline raises on purpose."""


class InputError(HaltlineError):
    """Bad input that a person can mend.

    `where` is a file, `file:line` or topic; `what` says what was found there; `fix` says what to do about it.
    """

    def __init__(self, where: object, what: str, fix: str = "") -> None:
        self.where, self.what, self.fix = str(where), what, fix
        super().__init__(f"{where}: {what}" + (f"\n  fix: {fix}" if fix else ""))


class ConfigError(InputError):
    """A setting is missing, misspelt or out of range."""


class DatasetError(InputError):
    """A file of a data set is broken, missing or contradicts another."""


class BundleError(InputError):
    """A model bundle is not what it claims to be, so it is refused before a session exists."""


class MessageError(InputError):
    """A payload breaks the line contract; `where` is its topic."""


class CameraError(HaltlineError):
    """The camera cannot be opened or stopped delivering."""


class ModelError(HaltlineError):
    """Inference failed, or its outputs are not finite scores of the promised shape."""


class LineError(HaltlineError):
    """The line's messages cannot be sent."""


class StorageError(HaltlineError):
    """Evidence cannot be written."""
