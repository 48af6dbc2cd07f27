"""Errors addressed to whoever gave the wrong input, not to whoever reads the code.

Runs raise them too: a file of their own keeps the notebooks' parameters out of every record's key.
"""


class InputError(ValueError):
    """Something given is wrong: a line (or one for each) that names it, its value and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        """Show in a notebook the message alone: a traceback would say nothing about what was given."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type's name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
