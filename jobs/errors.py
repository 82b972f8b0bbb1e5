"""Errors that are meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """One line that says what is wrong and what to do next; no traceback is shown.

    An error class of another package of ours is shown the same way (its `exit_code`, or 1, is the command's), so that
    `infra`, which imports nothing from here, can raise its own.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
