"""Which sites can be controlled, and whose meters and assets are whose: from the topics `sites` and `meters`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import orjson

from operators.compacted_topic import CompactedTopic
from operators.control.site_json import SiteError
from operators.control_site.situation import Place, place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often the topics are asked for news."""


class Places:
    """The sites with assets, by id. `version` changes with them. Not thread-safe."""

    def __init__(self, kafka: str, sites_topic: str, meters_topic: str) -> None:
        """
        Args:
            kafka: bootstrap servers.
            sites_topic, meters_topic: compacted topics.

        Raises:
            KafkaError: no broker answered.
        """
        self.places: dict[str, Place] = {}
        self.version = 0
        self._site_of: dict[str, str] = {}
        self._look_at = 0.0
        self._sites = CompactedTopic(kafka, sites_topic, _object)
        self._meters = CompactedTopic(kafka, meters_topic, _object)
        self._read()

    def look(self) -> bool:
        """Takes what is new, at most each `LOOK_EVERY_S`; whether something changed."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY_S
        news = [self._sites.look(), self._meters.look()]
        if any(news):
            self._read()
        return any(news)

    def site_of(self, kind: str, name: str | None) -> str | None:
        """The site of a meter (`kind` reading or forecast) or asset (any other); None: of no controlled one."""
        return self._site_of.get(f"{'meter' if kind in ('reading', 'forecast') else 'asset'}/{name}")

    def close(self) -> None:
        """Closes the connections."""
        self._sites.close()
        self._meters.close()

    def _read(self) -> None:
        self.version += 1
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self.places = dict(places(self._sites.values, self._meters.values))
        self._site_of = {}
        for name, place in self.places.items():
            for meter in {*place.grid_meters, *place.load_meters}:
                self._site_of[f"meter/{meter}"] = name
            for asset in place.site.by_id:
                self._site_of[f"asset/{asset}"] = name


def places(sites: Mapping[str, Mapping[str, Any]], meters: Mapping[str, Mapping[str, Any]]) -> dict[str, Place]:
    """Sites with assets that can be controlled, or with a limit to watch; of the others the log says why not.

    Args:
        sites, meters: messages of the topics, by id.
    """
    found = {}
    for name, raw in sites.items():
        if not raw.get("assets") and raw.get("limit_kw") is None:
            continue
        try:
            found[name] = place_of({**raw, "site_id": name}, meters)
        except SiteError as error:
            log.warning("site %s is neither controlled nor watched: %s", name, error)
    return found


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
