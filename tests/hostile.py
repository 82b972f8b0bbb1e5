"""A seeded stream of hostile records for `meter.readings`: what broken meters, gateways and attackers send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ANCHOR_MS = 1_735_689_600_000
"""2025-01-01T00:00Z: readings of known good form are of the ten days from here."""
RECORD_LIMIT = 65_536
HUGE_EVERY = 500
"""Records of up to a megabyte are rare, and each kind of them shall be there."""


@dataclass(frozen=True)
class Record:
    """One message."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    how: str = "good"
    """How it was made, for a failing test to tell."""


NUMBERS = (
    "0", "-0", "1.5", "-1.5", "1e3", "1E+2", "1e-7", "-1e-400", "1e308", "-1e308", "1.7976931348623157e308", "1e309",
    "-1e400", "NaN", "Infinity", "-Infinity", "nan", "inf", "00", "01", "+1", ".5", "1.", "0x10", "1_000", "1,5", "--1",
    "1e", "1e+", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "-9223372036854775809", "99999999999999999999", "123456789012345678901234567890.123456789", "5e-324", "1.0", "2.5",
    "0.1000000000000000055511151231257827", "2.2250738585072014e-308", "12345678.901234567", "-1", "1000000", "١",
)  # fmt: skip
LONG_NUMBERS = ("1" * 400, "0." + "9" * 60, "1" + "0" * 50, "-" + "7" * 39, "1e" + "0" * 20 + "2")
OTHERS = (
    "null", "true", "false", '""', '"1"', '"1.5"', '"NaN"', "[]", "{}", "[1]", '{"value":1}', "[[]]", '"null"',
    '"true"', "'1'", "undefined", "None", '" "', '"\\u0031"', '"',
)  # fmt: skip
TEXTS = (
    '"a\\u0000b"', '"a\\u001fb"', '"a\\u001eb"', '"\\n"', '"\\t"', '"a\x01b"', '"a\x7fb"', '"a\\u0080b"', '"a\x85b"',
    '"\\ud800"', '"a\\udfffb"', '"\\ud83d\\ude00"', '"😀"', '"Zähler ⚡ \\u00fc"', '"a\\u2028b"', '"a\u2028b"',
    '"\ufffd"', '"\\ufffd"', '"\ufeffm"', '"\\"quoted\\""', '"back\\\\slash"', '"slash\\/"', '"\\x41"', '"\\u00e"',
    '"\\N"', '"NULL"', '"null"', '" "', '"  m "', '"\'; DROP TABLE reading; --"', '"{1,2}"', '"{\\"a\\":1}"', '"%s %d"',
    '"${kafka}"', '"../../etc"', '"\u202egnirts"', '"e\\u0301"', '"é"', '"M"', '"m\\u0065ter"', '"' + "m" * 256 + '"',
    '"' + "m" * 257 + '"', '"' + "😀" * 256 + '"', '"' + "😀" * 257 + '"', '"' + "\\u0041" * 256 + '"',
    '"' + "x" * 60_000 + '"', '"' + '\\"' * 256 + '"',
)  # fmt: skip
TIMES = (
    "2025-01-05T24:00:00Z", "2025-01-05T23:59:60Z", "2016-12-31T23:59:60Z", "2025-01-05T12:00:61Z",
    "2024-02-29T00:00:00Z", "2025-02-29T00:00:00Z", "2000-02-29T12:00:00Z", "1900-02-29T00:00:00Z",
    "2025-02-30T00:00:00Z", "2025-04-31T00:00:00Z", "2025-00-10T00:00:00Z", "2025-13-01T00:00:00Z",
    "2025-01-00T00:00:00Z", "2025-01-05T12:00:00+18:00", "2025-01-05T12:00:00-18:00", "2025-01-05T12:00:00+23:59",
    "2025-01-05T12:00:00+24:00", "2025-01-05T12:00:00-00:00", "2025-01-05T12:00:00+0530", "2025-01-05T12:00:00+05",
    "2025-01-05T12:00:00+5", "2025-01-05T12:00:00+05:60", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00", "-2025-01-05T00:00:00Z",
    "+02025-01-05T00:00:00Z", "1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z", "1970-01-01T00:30:00+01:00",
    "2025-01-05", "2025-01-05T12:00:00", "2025-01-05 12:00:00Z", "2025-01-05t12:00:00z", "2025-01-05T12:00Z",
    "2025-01-05T12Z", "20250105T120000Z", "2025-W01-7T00:00:00Z", "2025-005T00:00:00Z", "2025-1-5T12:00:00Z",
    "2025-01-05T12:00:00.1Z", "2025-01-05T12:00:00,123456789Z", "2025-01-05T12:00:00.1234567890Z",
    "2025-01-05T12:00:00.Z", "2025-01-05T12:00:00 Z", " 2025-01-05T12:00:00Z", "2025-01-05T12:00:00Z ",
    "2025-01-05T12:00:00[Europe/Berlin]", "2025-01-05T12:00:00+01:00[Europe/Berlin]", "2025-01-05T12:00:00 UTC",
    "Sun, 05 Jan 2025 12:00:00 GMT", "05/01/2025", "yesterday", "now", "1736078400000", "2025-01-05T12:00:00\\u005a",
    "2025-01-05T12:00:00−01:00", "２０２５-01-05T12:00:00Z", "2025-01-05T12:00:00Z\\n", "2025-01-05T12:00:00Z\\u0000",
)  # fmt: skip
EPOCHS = (
    "0", "-0", "-1", "-0.5", "0.5", "1736078400", "1736078400000.9", "1.7360784e12", "1736078400000e0", "1.7e300",
    "-1e300", "1e18", "253402300799999", "253402300800000", "9223372036854775807", "9223372036854775808",
    "4102444800000", "999999999999999999999999",
)  # fmt: skip
FIELDS = (
    "meter_id",
    "register",
    "kind",
    "value",
    "unit",
    "ts",
    "interval_s",
    "revision",
    "quality",
    "tenant_id",
    "seq",
)
UNITS = ("Wh", "kWh", "MWh", "W", "kW", "MW", "kwh", "GWh", "J", "", "kWh ", "кВт", "k\\u0057h")
KINDS = ("register", "interval", "instant", "Register", "delta", "", "inst\\u0061nt", "interval\\u0000")


def records(seed: int, count: int, prefix: str) -> Iterator[Record]:
    """`count` records, the same for the same seed; meters of the good ones are called `prefix` and a number."""
    rng = random.Random(seed)
    for i in range(count):
        make = huge if i % HUGE_EVERY == HUGE_EVERY - 1 else rng.choices(MAKERS, WEIGHTS)[0]
        yield make(rng, Good(rng, prefix))


class Good:
    """A record of good form: JSON text by field, to be damaged."""

    def __init__(self, rng: random.Random, prefix: str) -> None:
        kind = rng.choice(("register", "interval", "instant"))
        self.meter = f"{prefix}{rng.randrange(40)}"
        slot = rng.randrange(960)
        at = ANCHOR_MS + slot * 900_000
        self.fields = {
            "meter_id": f'"{self.meter}"',
            "kind": f'"{kind}"',
            "unit": {"register": '"kWh"', "interval": '"Wh"', "instant": '"kW"'}[kind],
            "ts": str(at) if rng.random() < 0.5 else f'"{_iso(at, rng)}"',
            "value": str(1000 + slot) if kind == "register" else str(round(rng.uniform(0, 50), 3)),
        }
        for name, text in (("interval_s", "900"), ("revision", str(rng.randrange(3))), ("seq", str(slot))):
            if rng.random() < 0.3 or (name == "interval_s" and kind == "interval"):
                self.fields[name] = text
        if rng.random() < 0.2:
            self.fields["quality"] = rng.choice(('"measured"', '"estimated"', '"invalid"', "null"))
        # Registers of a kind each: a meter that mixes kinds under one register is a rarer case of its own.
        self.fields["register"] = {"register": '"1-0:1.8.0"', "interval": '"1-0:1.9.0"', "instant": '"1-0:1.7.0"'}[kind]

    def text(self) -> str:
        """The record's JSON."""
        return "{" + ",".join(f'"{name}":{value}' for name, value in self.fields.items()) + "}"

    def record(self, value: bytes | str | None, how: str) -> Record:
        """A message with the meter's key."""
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return Record(self.meter.encode(), content, how=how)


def _iso(ms: int, rng: random.Random) -> str:
    from datetime import UTC, datetime, timedelta, timezone

    offset = rng.choice((0, 60, 345, -210, 840))
    zone = UTC if not offset else timezone(timedelta(minutes=offset))
    return datetime.fromtimestamp(ms / 1000, zone).isoformat()


def good(rng: random.Random, good: Good) -> Record:
    return good.record(good.text(), "good")


def wrong_field(rng: random.Random, good: Good) -> Record:
    """Another value in a field, of any type."""
    name = rng.choice(FIELDS)
    pool = rng.choice((NUMBERS, NUMBERS, LONG_NUMBERS, OTHERS, TEXTS))
    good.fields[name] = rng.choice(pool)
    return good.record(good.text(), f"field {name}")


def wrong_time(rng: random.Random, good: Good) -> Record:
    good.fields["ts"] = rng.choice(EPOCHS) if rng.random() < 0.3 else f'"{rng.choice(TIMES)}"'
    # A meter of its own, mostly: a register of 2024 and 2025 alike has its energy spread over 30,000 quarter hours.
    good.fields["meter_id"] = f'"{good.meter}-{rng.randrange(100)}"'
    return good.record(good.text(), "time")


def wrong_unit(rng: random.Random, good: Good) -> Record:
    good.fields["unit"], good.fields["kind"] = f'"{rng.choice(UNITS)}"', f'"{rng.choice(KINDS)}"'
    if rng.random() < 0.3:
        good.fields["value"] = rng.choice(NUMBERS)
    return good.record(good.text(), "unit")


def absent(rng: random.Random, good: Good) -> Record:
    name = rng.choice(list(good.fields))
    if rng.random() < 0.5:
        del good.fields[name]
    else:
        good.fields[name] = "null"
    return good.record(good.text(), f"absent {name}")


def truncated(rng: random.Random, good: Good) -> Record:
    content = good.text().encode()
    return good.record(content[: rng.randrange(len(content))], "truncated")


def flipped(rng: random.Random, good: Good) -> Record:
    """Some bytes changed, put in or left out."""
    content = bytearray(good.text().encode())
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(content))
        how = rng.randrange(3)
        if how == 0:
            content[at] = rng.randrange(256)
        elif how == 1:
            content.insert(at, rng.randrange(256))
        else:
            del content[at]
    return good.record(bytes(content), "flipped")


def noise(rng: random.Random, good: Good) -> Record:
    return good.record(rng.randbytes(rng.choice((1, 2, 16, 300))), "noise")


def encoded(rng: random.Random, good: Good) -> Record:
    """Other encodings, byte order marks, and bytes that are no UTF-8 inside of a text."""
    text = good.text()
    bad = rng.choice((b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"))
    content = rng.choice(
        (
            text.encode("utf-16"), text.encode("utf-16-le"), text.encode("utf-32"), b"\xef\xbb\xbf" + text.encode(),
            text.replace(good.meter, good.meter + "X").encode().replace(b"X", bad),
            text[:-1].encode() + b',"note":"' + bad + b'"}', text.encode() + bad, bad + text.encode(),
            b"\x1f\x8b\x08\x00" + text.encode(), b"\x00\x00\x00\x00\x01" + text.encode(),
        )
    )  # fmt: skip
    return good.record(content, "encoded")


def twice(rng: random.Random, good: Good) -> Record:
    """Keys that come twice, and keys that only look alike."""
    text = good.text()
    name = rng.choice(list(good.fields))
    more = rng.choice(
        (
            f',"{name}":{good.fields[name]}', f',"{name}":null', f',"\\u{ord(name[0]):04x}{name[1:]}":1',
            f',"{name.upper()}":1', f',"{name} ":1', ',"x":1,"x":2', ',"x":{"y":1,"y":2}', ',"x":[{"y":1},{"y":2}]',
            ',"":1', ',"":1,"":2', ',"\\u0000":1', ',"__proto__":{}', ',"record":{"value":1}', ',"0":1',
        )
    )  # fmt: skip
    return good.record(text[:-1] + more + "}", "keys")


def around(rng: random.Random, good: Good) -> Record:
    """More than one value, or something beside the one."""
    text = good.text()
    content = rng.choice(
        (
            text + text, text + "," + text, text + "\n" + text, "[" + text + "]", text + "]", text + "}", text + ",",
            text + " x", text + "//c", "/*c*/" + text, text[:-1] + ",}", text.replace('"', "'"),
            " \n\t" + text + "\r\n ",
            "\x0b" + text, "\xa0" + text, text + "\x00", "\x00" + text, '"' + text.replace('"', '\\"') + '"',
            text + "],[1",
            "{}", "[]", "null", "", " ", "{", "}", "0", '""', text.replace(":", "="), text.replace(",", ";"),
            text + ',"a":{}', "{" + text + "}", '{"a":' + text + "}", json.dumps(json.loads(text), indent=4),
            text.replace('"kind"', '"k\\u0069nd"'), text.replace(":", " : "), text.replace("{", "{\x0c"),
        )
    )  # fmt: skip
    return good.record(content, "around")


def deep(rng: random.Random, good: Good) -> Record:
    """Nesting: what is read (to 500 deep here), and what no parser should follow."""
    depth = rng.choice((3, 50, 400, 2_000, 8_000, 30_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ("[", "")))
    inside = opening * depth + ("1" if opening != "[" else "") + closing * depth
    return good.record(good.text()[:-1] + f',"note":{inside}}}', f"deep {depth}")


def long(rng: random.Random, good: Good) -> Record:
    """Around the limit of a record's length, in characters that take one to four bytes."""
    text = good.text()
    filler = rng.choice(("x", "ü", "€", "😀"))
    room = RECORD_LIMIT - len(text) - len(',"note":""')
    length = room + rng.choice((-1, 0, 1, -2_000, 2_000))
    return good.record(text[:-1] + f',"note":"{filler * length}"}}', f"long {filler}")


def huge(rng: random.Random, good: Good) -> Record:
    """As much as the topic takes: bytes that do not shrink, text that grows sixfold when it is written as JSON."""
    size = rng.choice((500_000, 1_048_000))
    content = rng.choice(
        (
            lambda: rng.randbytes(size),
            lambda: bytes(size),
            lambda: bytes(rng.choices(range(32), k=size)),
            lambda: good.text().encode() + b" " * (size - 1_000),
        )
    )()
    return good.record(content, f"huge {size}")


def odd_message(rng: random.Random, good: Good) -> Record:
    """Tombstones, keys that are missing, empty, long or no text, and headers."""
    text = good.text().encode()
    key = rng.choice((None, b"", b"\x00", b"\xff\xfe", b"k" * 10_000, b"another-meter"))
    headers = rng.choice(
        ((), (("h", b"v"),), (("", b""),), (("content-type", b"\xff"), ("content-type", b"x" * 5_000)))
    )
    value = rng.choice((text, text, None, b""))
    if value is None and key is None:
        key = b""  # the client sends no message without both
    return Record(key, value, headers, "message")


MAKERS: tuple[Callable[[random.Random, Good], Record], ...] = (
    good, wrong_field, wrong_time, wrong_unit, absent, truncated, flipped, noise, encoded, twice, around, deep, long,
    odd_message,
)  # fmt: skip
WEIGHTS = (20, 22, 10, 6, 5, 5, 9, 3, 5, 5, 6, 1, 0.5, 4)
