"""A PostgreSQL connection that outlives its server, and columns as SQL parameters."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
import psycopg2
from numpy.typing import NDArray
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

log = logging.getLogger(__name__)
T = TypeVar("T")

HOPELESS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "invalid connection option",
    "invalid dsn",
)
"""What a server says at connect that trying again does not change."""

PASSING = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that may be gone at the next try: connection, deadlock, resources, locks, restart, system."""

READ_ONLY = "25006"
"""What a standby says, and some hosts whose disk is full: it passes too."""

MAX_INTERNAL_ERRORS = 8
"""Tries of a statement that fails with an internal error (XX…): some are passing ("tuple concurrently updated")."""


class StoreError(Exception):
    """The database cannot do what is asked, now or later; the message says what to do."""


class Session:
    """One connection, made when needed and again when lost, for one thread."""

    def __init__(
        self,
        url: str,
        *,
        give_up_after: float | None = None,
        first_wait: float = 0.1,
        longest_wait: float = 15.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            url: libpq URL.
            give_up_after: seconds of failure after which `StoreError` is raised; None: never.
            first_wait: seconds before the second try; doubles from try to try, with jitter.
            longest_wait: the most seconds between two tries.
            sleep: waits; a test passes its own.
        """
        self._url, self._give_up_after = url, give_up_after
        self._first_wait, self._longest_wait, self._sleep = first_wait, longest_wait, sleep
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except psycopg2.Error as error:
                log.debug("closing a lost connection: %s", error)

    def transaction(self, work: Callable[[Cursor], T]) -> T:
        """What `work(cursor)` returns, once its transaction is committed. `work` may run several times."""

        def once(connection: Connection) -> T:
            connection.autocommit = False
            with connection.cursor() as cursor:
                result = work(cursor)
            connection.commit()
            return result

        return self._insist(once)

    def autocommit(self, work: Callable[[Cursor], T]) -> T:
        """The same, each statement a transaction of its own (as `refresh_continuous_aggregate` wants)."""

        def once(connection: Connection) -> T:
            connection.autocommit = True
            with connection.cursor() as cursor:
                return work(cursor)

        return self._insist(once)

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(
                self._url, connect_timeout=10, keepalives_idle=30, keepalives_interval=10, keepalives_count=3
            )
        return self._connection

    def _insist(self, once: Callable[[Connection], T]) -> T:
        outage = _Outage()
        while True:
            try:
                result = once(self._connect())
            except psycopg2.Error as error:
                connecting = self._connection is None
                self._recover(error)
                explained = _hopeless(error, connecting=connecting)
                if explained is not None:
                    raise explained from error
                if not _passing(error) or outage.internal(error) >= MAX_INTERNAL_ERRORS:
                    raise
                if self._give_up_after is not None and outage.seconds() >= self._give_up_after:
                    raise StoreError(
                        f"the database does not answer since {outage.seconds():.0f} s ({_line(error)}); "
                        "is it running? `energyai status` tells"
                    ) from error
                wait = min(self._longest_wait, self._first_wait * 2**outage.tries)
                outage.report(error)
                self._sleep(wait * random.uniform(0.5, 1.0))
            except BaseException as error:
                self._recover(error)
                raise
            else:
                outage.over()
                return result

    def _recover(self, error: BaseException) -> None:
        """Roll back; where even that fails, give the connection up."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.closed or not isinstance(error, psycopg2.Error):
                self.close()
            elif not connection.autocommit:
                connection.rollback()
        except psycopg2.Error:
            self.close()


class _Outage:
    """How long a call fails already, and when that was last said."""

    def __init__(self) -> None:
        self.tries = 0
        self._since = self._said = 0.0
        self._internal = 0

    def seconds(self) -> float:
        """Seconds since the first failure."""
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since

    def internal(self, error: BaseException) -> int:
        """How many internal errors there were, this one included."""
        self._internal += isinstance(error, psycopg2.InternalError)
        return self._internal

    def report(self, error: BaseException) -> None:
        """Count a failure; say so after a second, then every half minute."""
        seconds = self.seconds()
        self.tries = min(self.tries + 1, 20)
        if seconds >= 1 and (not self._said or time.monotonic() - self._said >= 30):
            log.warning("the database fails since %.0f s, trying on: %s", seconds, _line(error))
            self._said = time.monotonic()

    def over(self) -> None:
        """Say that it is over, if it was said that it began."""
        if self._said:
            log.warning("the database answers again after %.0f s", self.seconds())


def _hopeless(error: psycopg2.Error, *, connecting: bool) -> StoreError | None:
    """What to tell the user of an error that another try does not change."""
    if connecting and isinstance(error, psycopg2.ProgrammingError):
        return StoreError(f"ENERGYAI_DATABASE_URL is no libpq URL: {_line(error)}")
    if connecting and any(text in str(error) for text in HOPELESS):
        return StoreError(f"cannot use the database: {_line(error)}; check ENERGYAI_DATABASE_URL")
    if isinstance(error, psycopg2.errors.UndefinedTable):
        return StoreError(f"{_line(error)}: the database has no EnergyAI tables; run the migrations (`energyai up`)")
    return None


def _passing(error: psycopg2.Error) -> bool:
    """Whether the next try may do better."""
    if not isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError)):
        return False
    return error.pgcode is None or error.pgcode[:2] in PASSING or error.pgcode == READ_ONLY


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def storable(column: NDArray[np.object_]) -> NDArray[np.object_]:
    """Text as PostgreSQL can store it: NUL becomes U+FFFD, lone surrogates become question marks."""
    joined = "".join(column.tolist())
    if "\x00" not in joined and joined.isprintable():
        return column
    return np.array([_clean(text) for text in column.tolist()], object)


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def array_literal(column: Sequence[str] | NDArray[Any]) -> str:
    """A column as the text of a PostgreSQL array; NaN becomes NULL, NUL (which text may not hold there) U+FFFD."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        body = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
        return "{" + body[1:-1].decode() + "}"
    texts = list(column)
    if not texts:
        return "{}"
    body_text = '"\n"'.join(texts)
    if body_text.count('"') != 2 * (len(texts) - 1) or "\\" in body_text:
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return _clean('{"' + '","'.join(texts) + '"}')


def rows_of(**columns: tuple[str, Sequence[str] | NDArray[Any]]) -> tuple[str, list[Any]]:
    """SQL of a row source that gives `columns`, and its parameters.

    Each column is (PostgreSQL type, values). One whose values are all equal travels once instead of n times.

    >>> rows_of(a=("int", np.array([1, 2])), b=("int", np.array([5, 5])))
    ('(SELECT a, (%s)::int AS b FROM unnest(%s::int[]) AS source (a))', [5, '{1,2}'])
    """
    select: list[str] = []
    names: list[str] = []
    arrays: list[str] = []
    constants: list[Any] = []
    parameters: list[Any] = []
    for name, (kind, values) in columns.items():
        if names and isinstance(values, np.ndarray) and len(values) and bool(np.all(values == values[0])):
            value = values[0]
            constants.append(_clean(value) if isinstance(value, str) else value.item())
            select.append(f"(%s)::{kind} AS {name}")  # -9223372036854775808::bigint would be -(9223…::bigint)
            continue
        select.append(name)
        names.append(name)
        arrays.append(f"%s::{kind}[]")
        parameters.append(array_literal(values))
    source = f"unnest({', '.join(arrays)}) AS source ({', '.join(names)})"
    return f"(SELECT {', '.join(select)} FROM {source})", constants + parameters
