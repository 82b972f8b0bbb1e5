"""The one error of the embedded stack that is meant for a person."""

from __future__ import annotations


class StackError(RuntimeError):
    """What went wrong with the stack, and what to do next, in one line; `exit_code` is the command's."""

    exit_code = 1
