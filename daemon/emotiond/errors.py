"""Errors that end a command, each with its exit code; the message is one sentence with the mend."""


class CommandError(Exception):
    """A failure the user can mend; `exit_code` is 1 unless a subclass says otherwise."""

    exit_code = 1


class NoInputError(CommandError):
    """No input could be opened."""

    exit_code = 66


class UnavailableError(CommandError):
    """Something outside is not available: Redis, a camera, a port."""

    exit_code = 69


class ConfigError(CommandError):
    """The configuration is wrong; a service manager need not retry. One line for each fault."""

    exit_code = 78


class UsageError(CommandError):
    """The command line is wrong in a way that the parser cannot see."""

    exit_code = 2
