"""The alerts of one site: evidence in, in any order; changes of alerts out. What it keeps can be packed and restored.

The alerts are a function of the set of evidence, the rules and the event time (`history`); what has been said before
decides only what is news.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import orjson

from operators.alerting.episodes import STALE_MS, Episode
from operators.alerting.evidence import Evidence
from operators.alerting.history import Alert, History
from operators.alerting.rules import ALWAYS, LONGEST_HOLD_MS, Book
from operators.alerting.said import Message, Row, Said, retract, say
from operators.alerting.schedule import Told, next_ms
from operators.alerting.spans import Span
from operators.alerting.times import DAY_MS

KEPT_MS = 35 * DAY_MS
"""How late evidence may be and still count."""
MAX_A_METER = 2_000
"""Pieces of evidence that are kept a meter, the newest."""
FORMAT = 1


class SiteBook:
    """Evidence and alerts of one site of one tenant."""

    def __init__(self, rules: Book | None = None) -> None:
        """
        Args:
            rules: that were always in force; None: the shipped ones.
        """
        self.clock_ms = -1
        """Event time up to which everything has come that is on time; -1: not known yet."""
        self.version = ""
        """Of the rules that were configured last."""
        self.entries: list[tuple[int, list[dict[str, Any]]]] = []
        """(from, rules) of the books that were configured."""
        self.evidence: dict[str, dict[str, Evidence]] = {}
        """Meter → id → evidence."""
        self.said: dict[str, list[Said]] = {}
        """Fingerprint → what was said of its episodes, by start."""
        self.floors: dict[str, int] = {}
        """Meter → end of the newest evidence that is no longer kept."""
        self.late = 0
        """Evidence that came too late to count."""
        self.changed: set[str] = set()
        """Fingerprints whose `said` is to be saved."""
        self.dropped: list[tuple[str, str]] = []
        """(meter, evidence) that need no longer be saved."""
        self._first = rules or Book.of(ALWAYS, ())
        self._quiet: dict[str, list[tuple[Episode, tuple[Span, ...]]]] = {}
        self._recalled: list[Row] = []
        """Rows of the table that nothing was said of, and whose time has not come."""
        self._oldest: dict[str, int] = {}
        """Meter → start of its oldest evidence, or earlier: whether there is anything to forget is asked often."""
        self._open_books()

    def add(self, evidence: Evidence) -> Evidence | None:
        """Takes one message's evidence; the version that counts now, or None when it changes nothing."""
        if max(evidence.seen_ms, evidence.end_ms or 0) < self.clock_ms - KEPT_MS:
            self.late += 1
            return None
        known = self.evidence.setdefault(evidence.meter, {})
        before = known.get(evidence.evidence_id)
        after = evidence.join(before)
        if after is before:
            return None
        known[evidence.evidence_id] = after
        self._oldest[evidence.meter] = min(after.start_ms, self._oldest.get(evidence.meter, after.start_ms))
        self._history.forget(evidence.meter)
        return after

    def configure(self, version: str, entries: list[dict[str, Any]], from_ms: int | None = None) -> bool:
        """Puts rules in force, unless they are those of the last call; whether they are new.

        Args:
            version: of the rules.
            entries: the configured rules.
            from_ms: event time from which they count; None: from now on, or always when nothing came yet.
        """
        if version == self.version:
            return False
        self.version = version
        at = (ALWAYS if self.clock_ms < 0 else self.clock_ms) if from_ms is None else from_ms
        self.entries = [entry for entry in self.entries if entry[0] < at] + [(at, entries)]
        self._open_books()
        return True

    def _open_books(self) -> None:
        first = [] if self.entries and self.entries[0][0] <= ALWAYS else [self._first]
        self._history = History(first + [Book.of(at, entries) for at, entries in self.entries])

    def evaluate(self, clock_ms: int, site_meters: int = 0) -> tuple[list[Message], int | None]:
        """What is news at `clock_ms`, as messages of topic `alerts`, and when to look again (None: with the next news).

        Time does not go back: an earlier `clock_ms` than before counts as that one.

        Args:
            clock_ms: event time up to which everything has come that is on time (a watermark). What has begun later is
                said at once; that nothing more came is not believed before.
            site_meters: meters that the site is known to have.
        """
        self.clock_ms = max(self.clock_ms, clock_ms)
        self._take_recalled()
        alerts, later = self._history.alerts(self.evidence, self.clock_ms, site_meters)
        by_name: dict[str, list[Alert]] = defaultdict(list)
        for alert in alerts:
            by_name[alert.fingerprint].append(alert)
        news: list[Message] = []
        moments = [later]
        for name in sorted({*by_name, *self.said}):
            now = by_name.get(name, [])
            if self._is_quiet(name, now):
                continue
            said = self._reconcile(name, now, news)
            if said != self.said.get(name, []):
                self.changed.add(name)
            if said:
                self.said[name] = said
            else:
                self.said.pop(name, None)
            moments += [next_ms(a.episode, a.hidden, s.told, a.clock_ms) for a, s in zip(now, said, strict=False)]
        self._forget()
        return news, min((ms for ms in moments if ms is not None), default=None)

    def finish(self, site_meters: int = 0) -> list[Message]:
        """At the end of all input: lets time go on until what is over is resolved. What goes on keeps firing."""
        news, _ = self.evaluate(self.clock_ms, site_meters)
        alerts, _ = self._history.alerts(self.evidence, self.clock_ms, site_meters)
        held = [alert.episode.release_ms for alert in alerts if not alert.episode.goes_on]
        more, _ = self.evaluate(max(held, default=self.clock_ms), site_meters)
        return news + more

    def recall(self, rows: Iterable[Row]) -> None:
        """Takes rows of table `alert` as said: those that no evidence bears out are taken back.

        A row counts from the look on at which its alert's time is the one at which the row was written: before that,
        the evidence that it was made of may still come.
        """
        self._recalled += rows

    def oldest_ms(self) -> int:
        """Start of the oldest evidence that is kept."""
        return min((e.start_ms for known in self.evidence.values() for e in known.values()), default=0)

    def _take_recalled(self) -> None:
        later = []
        for row in self._recalled:
            if row.changed_ms > self._own_ms(row.labels):
                later.append(row)
                continue
            known = self.said.setdefault(row.fingerprint, [])
            if all(said.starts_ms != row.starts_ms for said in known):
                said = Said(row.starts_ms, row.ends_ms, "", Told(), row.labels, row.starts_ms, recalled=True)
                known.append(said)
                known.sort(key=lambda said: said.starts_ms)
                self._quiet.pop(row.fingerprint, None)
        self._recalled = later

    def _own_ms(self, labels: Mapping[str, str]) -> int:
        """An alert's own time: the site's, or that of its meter's newest evidence (of all, without a meter)."""
        meter = labels.get("meter")
        known = self.evidence.values() if meter is None else (self.evidence.get(meter, {}),)
        return max([self.clock_ms, *(e.seen_ms for of_one in known for e in of_one.values())])

    def active(self) -> bool:
        """Whether anything fires or goes on, so that time alone may change something."""
        return any(said.ends_ms is None and not said.gone for of_one in self.said.values() for said in of_one) or any(
            not evidence.closed and not evidence.retracted
            for known in self.evidence.values()
            for evidence in known.values()
        )

    def _is_quiet(self, name: str, now: list[Alert]) -> bool:
        """Whether an alert is over, and its episodes are those of the last look: nothing can be new."""
        seen = [(alert.episode, tuple(alert.hidden)) for alert in now]
        before = self._quiet.get(name, [])
        same = len(before) == len(seen) and all(
            a is b and hidden == other for (a, hidden), (b, other) in zip(before, seen, strict=True)
        )
        if any(alert.episode.firing(alert.clock_ms) for alert in now):
            self._quiet.pop(name, None)
            return False
        self._quiet[name] = seen
        return same and bool(now)

    def _reconcile(self, name: str, now: list[Alert], news: list[Message]) -> list[Said]:
        """Compares an alert's episodes with what was said of them: what is said of each, then what was taken back."""
        left = [said for said in self.said.get(name, []) if not said.gone]
        gone = [said for said in self.said.get(name, []) if said.gone]
        out = []
        for alert in now:
            begin, end = alert.episode.since_ms, max(alert.episode.release_ms, alert.episode.fired_ms)
            mine = [s for s in left if s.starts_ms <= end and (s.ends_ms is None or s.ends_ms >= begin)]
            again = [said for said in gone if said.origin_ms == alert.episode.fired_ms]
            before = mine[0] if mine else again[0].begun_again(alert.episode.fired_ms) if again else None
            if mine:
                left.remove(mine[0])
            elif again:
                gone.remove(again[0])
            said, messages = say(alert, before, self._floor(alert.labels))
            out.append(said)
            news += messages
        for each in left:
            if self._settled(each):
                continue  # its evidence is no longer kept
            # Where the alert fires all the same (it was joined with an earlier one), nobody is told that it is over.
            alone = not any(alert.episode.firing(alert.clock_ms) for alert in now)
            news.append(retract(name, each, self._own_ms(each.labels), tell=alone))
            gone.append(each.taken_back())
        return out + [each for each in gone if each.origin_ms > self.clock_ms - KEPT_MS]

    def _settled(self, said: Said) -> bool:
        return said.ends_ms is not None and said.ends_ms <= max(self.clock_ms - KEPT_MS, self._floor(said.labels))

    def _floor(self, labels: Mapping[str, str]) -> int:
        """Until when evidence of an alert may be missing because it is no longer kept."""
        meter = labels.get("meter")
        return max(self.floors.values(), default=-1) if meter is None else self.floors.get(meter, -1)

    def _forget(self) -> None:
        """Drops evidence that is older than `KEPT_MS`, up to a gap that no episode spans, and what is too much."""
        horizon = self.clock_ms - KEPT_MS
        past = [at for at, _ in self.entries if at < horizon]
        if len(past) > 1:
            self.entries = [entry for entry in self.entries if entry[0] >= past[-1]]
            self._open_books()
        for meter, known in list(self.evidence.items()):
            if len(known) <= MAX_A_METER and self._oldest.get(meter, -1) >= horizon:
                continue
            ordered = sorted(known.values(), key=lambda e: (e.start_ms, e.evidence_id))
            many = max(_old(ordered, horizon), len(ordered) - MAX_A_METER)
            for evidence in ordered[:many]:
                del known[evidence.evidence_id]
                self.dropped.append((meter, evidence.evidence_id))
                self.floors[meter] = max(self.floors.get(meter, 0), min(_end(evidence), self.clock_ms))
            if many:
                self._history.forget(meter)
            self._oldest[meter] = ordered[many].start_ms if many < len(ordered) else -1
            if not known:
                del self.evidence[meter], self._oldest[meter]

    def header(self) -> bytes:
        """What is kept of the site besides evidence and what was said."""
        kept = {"clock": self.clock_ms, "version": self.version, "rules": self.entries, "floors": self.floors}
        return orjson.dumps({"format": FORMAT, "late": self.late, **kept})

    def packed(self, name: str) -> bytes | None:
        """What was said of an alert; None: nothing any more."""
        said = self.said.get(name)
        return orjson.dumps([each.pack() for each in said]) if said else None

    @classmethod
    def restore(
        cls, header: bytes, evidence: Iterable[bytes], said: Iterable[tuple[str, bytes]], rules: Book | None = None
    ) -> Self:
        """From what was packed.

        Args:
            header: of `header`.
            evidence: each as `Evidence.pack` gives it.
            said: fingerprint and what `packed` gives.
            rules: as for a new book.

        Raises:
            ValueError: packed by a later version of the program.
        """
        book = cls(rules)
        kept = orjson.loads(header)
        if kept["format"] > FORMAT:
            raise ValueError(f"state of alerts has format {kept['format']}, newer than {FORMAT}: update EnergyAI")
        book.clock_ms, book.floors, book.late = kept["clock"], kept["floors"], kept["late"]
        book.version, book.entries = kept["version"], [(at, entries) for at, entries in kept["rules"]]
        for packed in evidence:
            each = Evidence.unpack(packed)
            book.evidence.setdefault(each.meter, {})[each.evidence_id] = each
        book.said = {name: [Said.unpack(values) for values in orjson.loads(packed)] for name, packed in said}
        book._open_books()
        return book


def _end(evidence: Evidence) -> int:
    if evidence.closed and evidence.end_ms is not None:
        return evidence.end_ms
    return evidence.seen_ms + STALE_MS


def _old(ordered: list[Evidence], horizon_ms: int) -> int:
    """How many of the first belong to the time before `horizon_ms` alone."""
    old, end = 0, -1
    for i, evidence in enumerate(ordered):
        if i and end < horizon_ms and evidence.start_ms - end > 2 * LONGEST_HOLD_MS:
            old = i
        end = max(end, _end(evidence))
    return len(ordered) if end < horizon_ms else old
