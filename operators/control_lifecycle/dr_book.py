"""All that is known of demand response and overrides: the newest version of each, whatever order they came in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from operators.control_lifecycle.dr_events import Message, parse


class DrBook:
    """Keeps the greatest version of every event, opt-out and override; `state` is JSON."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        saved: dict[str, Any] = json.loads(json.dumps(dict(state or {})))
        self._kept: dict[str, Message] = saved

    def state(self) -> dict[str, Any]:
        """Everything, as JSON; `DrBook(state)` goes on from it."""
        return dict(sorted(self._kept.items()))

    def add(self, message: bytes | str | Mapping[str, Any]) -> bool:
        """Takes a message of `dr.events`; False when it is a repeat, or older than what is known.

        Raises:
            DrError: it is not usable.
        """
        made = parse(message)
        key = f"{made['object']}/{made['id']}"
        known = self._kept.get(key)
        if known is not None and bool(known["version"] >= made["version"]):
            return False
        self._kept[key] = made
        return True

    def prune(self, before_ms: int) -> None:
        """Forgets what was over by then (ms UTC). A later version of it may still come, and be forgotten again."""
        for key, kept in list(self._kept.items()):
            if kept["object"] == "EVENT":
                ends = [i["end_ms"] + kept["randomize_ms"] for i in kept["intervals"]]
                # A cancelled one has no interval left; it stays for as long after its cancellation.
                over = max(ends, default=kept["version"][1]) < before_ms
            else:
                end_ms: int = kept["end_ms"] if kept["object"] == "OVERRIDE" else kept["at_ms"]
                over = end_ms < before_ms and not self._needed(kept)
            if over:
                del self._kept[key]

    def events(self) -> list[Message]:
        """Events that are not cancelled."""
        return [k for _, k in sorted(self._kept.items()) if k["object"] == "EVENT" and k["status"] == "active"]

    def overrides(self, site_id: str) -> list[Message]:
        """Overrides of a site that are not cancelled."""
        found = (k for _, k in sorted(self._kept.items()) if k["object"] == "OVERRIDE" and k["status"] == "active")
        return [k for k in found if k["site"] == site_id]

    def words(self, event: Message, site_id: str) -> list[tuple[int, bool]]:
        """When (ms UTC) the site opted out of the event (True) or in again, in order. None counts for a binding one."""
        if event["binding"]:
            return []
        said = (k for k in self._kept.values() if k["object"] == "OPT_OUT" and k["event"] == event["id"])
        return sorted((w["at_ms"], w["out"]) for w in said if w["site"] == site_id)

    def _needed(self, kept: Message) -> bool:
        return kept["object"] == "OPT_OUT" and f"EVENT/{kept['event']}" in self._kept
