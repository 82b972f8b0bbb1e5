"""Alerts of a site as a function of the set of evidence, the rules and the event time. What is worked out is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from operators.alerting.episodes import Episode, Piece, Timeline, episodes
from operators.alerting.evidence import Evidence, fingerprint
from operators.alerting.messages import labels_of
from operators.alerting.rules import Book, Rule
from operators.alerting.spans import Span, merged, where_at_least


@dataclass
class Alert:
    """One alert of the history."""

    fingerprint: str
    labels: dict[str, str]
    episode: Episode
    clock_ms: int
    """Its own time: the site's, or that of its newest evidence where it is ahead."""
    hidden: list[Span] = field(default_factory=list)
    """Where it is inhibited, merged."""
    inhibited_by: str = ""
    """By which alert now."""


@dataclass
class _Cut:
    """A meter's evidence as the rules see it."""

    labels: dict[str, dict[str, str]]
    """Fingerprint → labels."""
    pieces: dict[str, list[Piece]]
    """Fingerprint → pieces of rules of scope `meter`."""
    for_site: list[Piece]
    """Pieces of rules of scope `site`."""
    newest_ms: int = -1
    """What its evidence knows of: a meter's messages come in their order, those of others may lag behind."""


class History:
    """Works out alerts, a meter at a time: what has not changed is not worked out again."""

    def __init__(self, books: list[Book]) -> None:
        """
        Args:
            books: of rules, by the time from which they are in force; the first always was.
        """
        self._books = books
        self._cuts: dict[str, _Cut] = {}
        self._timelines: dict[str, tuple[list[Piece], int, Timeline]] = {}
        self._matched: dict[tuple[int, str, str, str], list[Rule]] = {}

    def forget(self, meter: str) -> None:
        """A meter's evidence has changed."""
        for name in self._cuts.pop(meter, _Cut({}, {}, [])).pieces:
            self._timelines.pop(name, None)

    def alerts(
        self, evidence: Mapping[str, Mapping[str, Evidence]], clock_ms: int, site_meters: int
    ) -> tuple[list[Alert], int | None]:
        """All alerts at `clock_ms`, by fingerprint and start, and when they change next by themselves.

        Args:
            evidence: meter → id → evidence.
            clock_ms: event time up to which everything has come that is on time.
            site_meters: meters that the site is known to have; rules of scope `site` take a share of them.
        """
        found: list[Alert] = []
        later: list[int | None] = []

        def take(name: str, labels: dict[str, str], timeline: Timeline, own_ms: int) -> None:
            found.extend(Alert(name, labels, episode, own_ms) for episode in timeline.episodes)
            later.append(timeline.next_ms)

        for meter, known in evidence.items():
            cut = self._cut(meter, known)
            own_ms = max(clock_ms, cut.newest_ms)
            for name, pieces in cut.pieces.items():
                take(name, cut.labels[name], self._timeline(name, pieces, own_ms), own_ms)
        for rule, pieces in self._of_site(evidence, clock_ms, site_meters):
            labels = labels_of(rule, pieces[0].evidence)
            own_ms = max(clock_ms, *(piece.start_ms for piece in pieces))
            take(fingerprint(labels), labels, episodes(pieces, own_ms), own_ms)
        found.sort(key=lambda alert: (alert.fingerprint, alert.episode.fired_ms))
        _inhibit(found)
        return found, min((ms for ms in later if ms is not None), default=None)

    def _cut(self, meter: str, known: Mapping[str, Evidence]) -> _Cut:
        cut = self._cuts.get(meter)
        if cut is None:
            cut = self._cuts[meter] = _Cut({}, defaultdict(list), [], max(e.seen_ms for e in known.values()))
            names: dict[tuple[str, str, str, str], str] = {}
            for evidence in known.values():
                for piece in self._pieces(evidence):
                    if piece.rule.scope == "site":
                        cut.for_site.append(piece)
                        continue
                    short = (piece.rule.alert, piece.rule.severity, evidence.tenant, evidence.site)
                    name = "" if evidence.labels is not None else names.get(short, "")
                    if not name:
                        labels = labels_of(piece.rule, evidence)
                        name = fingerprint(labels)
                        cut.labels[name] = labels
                        if evidence.labels is None:
                            names[short] = name
                    cut.pieces[name].append(piece)
        return cut

    def _timeline(self, name: str, pieces: list[Piece], clock_ms: int) -> Timeline:
        kept = self._timelines.get(name)
        if kept is not None and kept[0] is pieces and kept[1] <= clock_ms:
            until = kept[2].next_ms
            if until is None or clock_ms < until:
                return kept[2]
        timeline = episodes(pieces, clock_ms)
        if all(piece.end_ms is not None and piece.end_ms <= clock_ms for piece in pieces):
            self._timelines[name] = (pieces, clock_ms, timeline)
        return timeline

    def _pieces(self, evidence: Evidence) -> Iterator[Piece]:
        """The evidence as each book's rules see it, cut where the next book begins."""
        if evidence.retracted:
            return
        end = evidence.end_ms if evidence.closed else None
        for i, book in enumerate(self._books):
            begin = max(evidence.start_ms, book.from_ms)
            limit = self._books[i + 1].from_ms if i + 1 < len(self._books) else None
            if (end is not None and begin > end) or (limit is not None and begin >= limit):
                continue
            until = end if limit is None else limit if end is None else min(end, limit)
            for rule in self._rules(i, book, evidence):
                if rule.keeps(evidence):
                    yield Piece(begin, until, rule.begins(evidence), rule, evidence)

    def _rules(self, i: int, book: Book, evidence: Evidence) -> list[Rule]:
        """The book's rules for such evidence: patterns are compared once a meter and kind."""
        if evidence.labels is not None:
            return book.of_evidence(evidence)
        key = (i, evidence.kind, evidence.site, evidence.meter)
        found = self._matched.get(key)
        if found is None:
            found = self._matched[key] = book.of_evidence(evidence)
        return found

    def _of_site(
        self, evidence: Mapping[str, Mapping[str, Evidence]], clock_ms: int, site_meters: int
    ) -> Iterator[tuple[Rule, list[Piece]]]:
        """Rules of scope `site`, and the pieces in which enough meters have evidence at once."""
        by_alert: dict[str, dict[str, list[Piece]]] = defaultdict(dict)
        for meter in evidence:
            for piece in self._cuts[meter].for_site:
                if piece.strong:
                    by_alert[piece.rule.alert].setdefault(meter, []).append(piece)
        for name in sorted(by_alert):
            meters = by_alert[name]
            newest = max((p for found in meters.values() for p in found), key=lambda p: (p.start_ms, p.evidence.rank()))
            rule, total = newest.rule, max(site_meters, len(evidence))
            least = max(rule.min_meters, -(-round(rule.share * 1000) * total // 1000))
            if len(meters) < least:
                continue
            members = [merged(_spans(found, max(clock_ms, self._cuts[m].newest_ms))) for m, found in meters.items()]
            seen = max(p.evidence.seen_ms for found in meters.values() for p in found)
            one = replace(newest.evidence, meter="", labels=None, annotations=None, score=None, model_id=None)
            pieces = [
                Piece(start, end, True, rule, _together(one, name, (start, end), (least, total), seen))
                for start, end in where_at_least(members, least)
            ]
            if pieces:
                yield rule, pieces


def _together(one: Evidence, name: str, span: Span, counts: tuple[int, int], seen_ms: int) -> Evidence:
    """Evidence that so many meters (the least, and all) have the same at once."""
    least, total = float(counts[0]), float(counts[1])
    return replace(
        one, evidence_id=f"{name}/{span[0]}", start_ms=span[0], end_ms=span[1], closed=span[1] is not None,
        seen_ms=seen_ms, revision=0, observed_kwh=least, expected_kwh=total, lower_kwh=least, upper_kwh=None,
    )  # fmt: skip


def _spans(pieces: Iterable[Piece], clock_ms: int) -> Iterator[Span]:
    for piece in pieces:
        yield piece.start_ms, None if piece.goes_on(clock_ms) else piece.until(clock_ms)


def _inhibit(alerts: list[Alert]) -> None:
    """Notes where each alert is hidden by others of its site."""
    for source in alerts:
        rule = source.episode.rule
        if not rule.inhibits:
            continue
        end = None if source.episode.firing(source.clock_ms) else source.episode.release_ms
        for alert in alerts:
            if alert.labels["alertname"] in rule.inhibits and alert.fingerprint != source.fingerprint:
                alert.hidden = merged([*alert.hidden, (source.episode.fired_ms, end)])
                if end is None and alert.episode.firing(alert.clock_ms):
                    alert.inhibited_by = source.fingerprint
