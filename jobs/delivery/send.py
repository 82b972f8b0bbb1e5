"""One request to one receiver: delivered, or why not. Nothing it says contains a secret."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from jobs.delivery import formats
from jobs.delivery.guard import GuardedResolver, RefusedError, check_literal
from jobs.delivery.receivers import Receiver, SecretError

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 600.0
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read."""


class NotDeliveredError(Exception):
    """The attempt failed; the message is one line for people."""


class Sender:
    """Sends to one receiver, over connections of its own."""

    def __init__(self, receiver: Receiver, resolver: aiohttp.abc.AbstractResolver | None = None) -> None:
        self._receiver = receiver
        self._resolver = GuardedResolver(receiver.networks, resolver)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, ce_id: str, group: Mapping[str, str], alerts: Sequence[Mapping[str, Any]]) -> None:
        """Makes one attempt.

        Raises:
            NotDeliveredError: refused, failed, or answered with anything but 2xx.
        """
        receiver = self._receiver
        try:
            assert receiver.url is not None, "the configuration was checked"
            url = _full(receiver, receiver.url.read())
            content = formats.body(receiver, group, alerts)
            told = formats.headers(receiver, content, ce_id, alerts, int(time.time()))
            check_literal(url, receiver.networks)
            await self._post(url, content, told)
        except (SecretError, RefusedError) as error:
            raise NotDeliveredError(str(error)) from error
        except TimeoutError as error:
            raise NotDeliveredError(f"no answer within {receiver.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise NotDeliveredError(_why(error)) from error

    async def _post(self, url: str, content: bytes, told: Mapping[str, str]) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._resolver, ssl=self._tls(), limit=8, ttl_dns_cache=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        timeout = aiohttp.ClientTimeout(total=self._receiver.timeout_s)
        async with self._session.post(
            url, data=content, headers=told, allow_redirects=False, timeout=timeout
        ) as answer:
            # To its end, so that one who dies in the middle of an answer is told again.
            read = 0
            async for chunk in answer.content.iter_any():
                read += len(chunk)
                if read > MAX_ANSWER:
                    break
            if 300 <= answer.status < 400:
                raise NotDeliveredError(f"answered {answer.status}: redirects are not followed, correct its url")
            if not 200 <= answer.status < 300:
                raise NotDeliveredError(f"answered {answer.status}")

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._receiver.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SecretError(f"ca_file {self._receiver.ca_file} cannot be used ({type(error).__name__})") from error


class Rate:
    """A token bucket: so many a minute, those of ten seconds at once."""

    def __init__(self, per_minute: float) -> None:
        self._every_s = 60.0 / per_minute
        self._burst_s = max(0.0, 10.0 - self._every_s)
        self._free_at = 0.0

    def delay_s(self) -> float:
        """Seconds until the next request may be made; 0: now."""
        return max(0.0, self._free_at - time.monotonic())

    def take(self) -> None:
        """Counts a request."""
        self._free_at = max(self._free_at, time.monotonic() - self._burst_s) + self._every_s


def backoff_s(attempts: int) -> float:
    """Seconds before the next attempt: doubles, with jitter over its upper half."""
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempts - 1, 20)) * random.uniform(0.5, 1.0))


def _full(receiver: Receiver, url: str) -> str:
    if receiver.type == "alertmanager" and not url.rstrip("/").endswith("/api/v2/alerts"):
        return url.rstrip("/") + "/api/v2/alerts"
    return url


def _why(error: BaseException) -> str:
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, RefusedError):
        cause = cause.__cause__
    if isinstance(cause, RefusedError):
        return str(cause)
    # Of aiohttp's errors the type alone: some quote the address, and it may be secret.
    said = getattr(error, "os_error", None) or error
    reason = getattr(said, "strerror", None)
    return f"{type(error).__name__}{f': {reason}' if reason else ''}"
