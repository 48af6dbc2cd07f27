"""Errors that are told to whoever gave the wrong input, and not to whoever reads the code."""


class InputError(ValueError):
    """Something given is wrong: a line (or one for each) that names it, its value and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        """Show in a notebook the message alone: a traceback would say nothing about what was given."""
        return [f"{type(self).__name__}: {self}"]
