"""Every error this package raises on purpose.

ExecutorError            one line for a person or a model: what is wrong, and the way out
├── InvalidArgument      a value given from outside breaks a rule
│   └── SettingsError    the value is a setting: the start stops
├── WallsMissing         this machine does not offer the walls that ISOLATION asks for
├── StoreError           the directory of the environments can't be used
├── PackageError         a package operation failed, with uv's reason
├── Busy                 too many executions wait already
└── EngineError          a zygote died or misbehaved; the next call gets a new one

A program that fails is data (`execution.model.ExecutionResult`), never one of these.
"""

# Enough of a bad value to recognise it by; it may be a whole program.
_SHOWN_CHARACTERS = 80


def shown(value: object, *, most: int = _SHOWN_CHARACTERS) -> str:
    """`value` as the sentence of an error shows it: printable, and cut where it has more than `most` characters."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


class ExecutorError(Exception):
    """What is wrong and the way out, in one line. `exit_status` is the command line's, after sysexits.h."""

    exit_status = 70


class InvalidArgument(ExecutorError):
    """A value given from outside breaks a rule."""

    exit_status = 64


class SettingsError(InvalidArgument):
    """A setting has a bad value: names the variable, the value and what is accepted."""

    exit_status = 78


class WallsMissing(ExecutorError):
    """This machine does not offer the walls that ISOLATION asks for."""

    exit_status = 69


class StoreError(ExecutorError):
    """The directory of the environments can't be used."""

    exit_status = 73


class PackageError(ExecutorError):
    """A package operation failed, with uv's reason cut to its point."""

    exit_status = 74


class Busy(ExecutorError):
    """Too many executions wait already."""

    exit_status = 75


class EngineError(ExecutorError):
    """A zygote died or misbehaved; the next call gets a new one."""

    exit_status = 70
