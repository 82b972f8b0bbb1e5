"""Configuration into the tables and the topics `sites` and `meters` alike. Applied again, it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.config import alerting
from jobs.config.rules import ASSET, METER, SITE, Kind
from jobs.config.schema import Config, Known
from jobs.errors import UserError
from jobs.settings import Addresses

TABLES = {"sites": "site", "meters": "meter", "assets": "asset"}
SITE_ASSET = (
    "asset_id",
    "type",
    "min_w",
    "max_w",
    "ramp_w_per_s",
    "capacity_wh",
    "efficiency",
    "priority",
)
"""What the topic `sites` says of an asset."""
DECIDES_ENERGY = ("register_max", "max_kw")
"""Keys of a meter on which the energy of its readings depends."""
TIMEOUT_MS = 20_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Applied:
    """Rows that an application made or changed, messages that it sent, and what followed."""

    sites: int = 0
    meters: int = 0
    assets: int = 0
    alerts: int = 0
    receivers: int = 0
    messages: int = 0
    rederived: int = 0
    """Meters whose energy was derived again."""

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def apply(addresses: Addresses, config: Config, say: Say | None = None) -> Applied:
    """Writes `config` to the tables, in one transaction, and the topics. What it does not name stays as it is.

    Then the energy of every meter whose `register_max` or `max_kw` is new is derived again.

    Args:
        addresses: where Kafka and the database are.
        config: what to write.
        say: told of each meter whose energy is derived again, one line.

    Raises:
        UserError: Kafka does not answer, or refuses, or the energy cannot be derived; applying again mends it.
        DatabaseError: the database does not answer.
    """
    entries = {name: getattr(config, name) for name in (*TABLES, *alerting.TABLES)}
    applied = _write(addresses.kafka, addresses.database_url, entries)
    return replace(applied, rederived=rederive_outdated(addresses.database_url, say))


def rederive_outdated(database_url: str, say: Say | None = None) -> int:
    """Derives the energy of the meters again whose configuration it does not know yet; how many there were.

    Raises:
        UserError: the database went away; what is not done is still marked, and the next call goes on.
    """
    from operators.store import Store, StoreError

    store = Store(database_url, give_up_after=TIMEOUT_MS / 1000)
    try:
        meters = store.outdated()
        for number, meter in enumerate(meters, 1):
            if say:
                say(f"energy of meter {meter} is derived again ({number} of {len(meters)})")
            store.rederive(meter)
    except StoreError as error:
        raise UserError(f"{error}; then apply again: it goes on with the meters that are left") from error
    finally:
        store.close()
    return len(meters)


def apply_meters(kafka: str, database_url: str, meters: list[dict[str, Any]]) -> Applied:
    """Makes meters known by some of their keys (`meter_id` at least); of a known one the other keys stay as they are.

    Args:
        kafka: bootstrap servers.
        database_url: libpq URL.
        meters: keys as in the contracts' topic `meters`; `register_max` in kWh, `max_kw` in kW.

    Raises:
        UserError: Kafka does not answer; a key that a meter does not have, or a value that it may not have.
        DatabaseError: the database does not answer.
    """
    entries = []
    for meter in meters:
        if not meter.get("meter_id"):
            raise UserError("a meter without meter_id: give it one", 2)
        for name, value in meter.items():
            rule = METER.keys.get(name)
            problem = "unknown key" if rule is None else None if value is None else rule.check(value)
            if problem:
                raise UserError(f"meter {meter['meter_id']}: {name}: {problem}", 2)
        # Null is a value (not known) only where it is the default.
        entries.append({k: v for k, v in meter.items() if v is not None or METER.keys[k].default is None})
    applied = _write(kafka, database_url, {"meters": entries})
    return replace(applied, rederived=rederive_outdated(database_url))


def known(database_url: str) -> Known:
    """Sites and meters of the database.

    Raises:
        DatabaseError: it does not answer.
    """
    from infra.database import connected

    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute("SELECT site_id, tz, tenant_id FROM site")
        sites = {site: {"tz": tz, "tenant_id": tenant} for site, tz, tenant in cursor.fetchall()}
        cursor.execute("SELECT meter_id, parent_meter_id FROM meter")
        parents = dict(cursor.fetchall())
        return Known(sites, parents, frozenset(entry["receiver"] for entry in alerting.stored(cursor, "receivers")))


def stored(database_url: str) -> dict[str, list[dict[str, Any]]]:
    """`sites`, `meters` (with `configured`), `assets`, `alerts` and `receivers` of the database, by id.

    Raises:
        DatabaseError: it does not answer.
    """
    from infra.database import connected

    with connected(database_url) as link, link.cursor() as cursor:
        found = {kind.name: _rows(cursor, kind) for kind in (SITE, METER, ASSET)}
        found |= {name: alerting.stored(cursor, name) for name in alerting.TABLES}
        cursor.execute("SELECT meter_id FROM meter WHERE configured")
        configured = {name for (name,) in cursor.fetchall()}
    for meter in found["meters"]:
        meter["configured"] = meter["meter_id"] in configured
    return found


def _write(kafka: str, database_url: str, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Applied:
    from infra.database import connected

    with _producer(kafka) as producer, connected(database_url) as link, link.cursor() as cursor:
        touched = _sites_of(cursor, entries)
        counts = {
            kind.name: sum(_upsert(cursor, kind, entry) for entry in entries.get(kind.name, ()))
            for kind in (SITE, METER, ASSET)  # sites first: the others refer to them
        }
        for name in alerting.TABLES:
            counts[name] = sum(alerting.upsert(cursor, name, dict(entry)) for entry in entries.get(name, ()))
        touched |= _sites_of(cursor, entries)  # where a meter was, and where it is now
        messages = list(_messages(cursor, touched, [str(m["meter_id"]) for m in entries.get("meters", ())]))
        if entries.get("alerts"):
            messages.append((alerting.RULES_TOPIC, alerting.RULES_KEY, alerting.message(cursor)))
        link.commit()
        _send(producer, kafka, messages)
    return Applied(**counts, messages=len(messages))


def _upsert(cursor: Any, kind: Kind, entry: Mapping[str, Any]) -> int:
    """1 when the row is new or changed. Names of tables and columns are this module's own, never a file's."""
    table = TABLES[kind.name]
    values = {name: entry[name] for name in kind.keys if name in entry}
    if kind is METER:
        values["configured"] = True
    columns = list(values)
    derived = [name for name in DECIDES_ENERGY if kind is METER and name in values]
    outdated = "".join(f" OR meter.{name} IS DISTINCT FROM excluded.{name}" for name in derived)
    others = [name for name in columns if name != kind.id_key]
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(f'%({name})s' for name in columns)}) "
        f"ON CONFLICT ({kind.id_key}) DO UPDATE SET "
        f"{', '.join(f'{name} = excluded.{name}' for name in others)}{',' if others else ''} updated_at = now()"
        f"{f', energy_outdated = meter.energy_outdated{outdated}' if outdated else ''} "
        f"WHERE ({', '.join(f'{table}.{name}' for name in others)}) "
        f"IS DISTINCT FROM ({', '.join(f'excluded.{name}' for name in others)})",
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()},
    )
    return int(cursor.rowcount)


def _sites_of(cursor: Any, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> set[str]:
    """Sites whose message may change."""
    found = {str(site["site_id"]) for site in entries.get("sites", ())}
    for kind in (METER, ASSET):
        ids = [str(entry[kind.id_key]) for entry in entries.get(kind.name, ())]
        cursor.execute(f"SELECT DISTINCT site_id FROM {TABLES[kind.name]} WHERE {kind.id_key} = ANY(%s)", (ids,))
        found |= {site for (site,) in cursor.fetchall()}
    return found


def _messages(cursor: Any, sites: set[str], meters: list[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Topic, key and value, from the tables: a file may hold a part of a site only."""
    assets = _rows(cursor, ASSET, "site_id", sites)
    cursor.execute("SELECT site_id, meter_id FROM meter WHERE site_id = ANY(%s) ORDER BY meter_id", (list(sites),))
    members = cursor.fetchall()
    for site in _rows(cursor, SITE, "site_id", sites):
        name = site["site_id"]
        site["meters"] = [meter for place, meter in members if place == name]
        site["assets"] = [{key: a[key] for key in SITE_ASSET} for a in assets if a["site_id"] == name]
        yield "sites", name, site
    for meter in _rows(cursor, METER, "meter_id", meters):
        yield "meters", meter["meter_id"], meter


def _rows(cursor: Any, kind: Kind, column: str | None = None, values: Iterable[str] = ()) -> list[dict[str, Any]]:
    names = list(kind.keys)
    where = f"WHERE {column} = ANY(%s)" if column else ""
    cursor.execute(
        f"SELECT {', '.join(names)} FROM {TABLES[kind.name]} {where} ORDER BY {kind.id_key}",
        (list(values),) if column else None,
    )
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def _producer(kafka: str) -> Iterator[Any]:
    # Before the tables are written: with no Kafka, nothing is changed.
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(
            bootstrap_servers=kafka.split(","),
            client_id="energyai-config",
            acks="all",
            max_block_ms=TIMEOUT_MS,
            delivery_timeout_ms=TIMEOUT_MS,
            request_timeout_ms=TIMEOUT_MS // 2,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
    except (KafkaError, OSError, ValueError) as error:
        raise _refused(kafka, error) from error
    try:
        yield producer
    finally:
        producer.close(timeout=1)


def _send(producer: Any, kafka: str, messages: list[tuple[str, str, dict[str, Any]]]) -> None:
    from kafka.errors import KafkaError

    try:
        sent = [
            producer.send(topic, json.dumps(value, separators=(",", ":")).encode(), key.encode())
            for topic, key, value in messages
        ]
        for future in sent:
            future.get(timeout=TIMEOUT_MS / 1000)
    except (KafkaError, OSError) as error:
        raise _refused(kafka, error) from error


def _refused(kafka: str, error: BaseException) -> UserError:
    return UserError(
        f"Kafka at {kafka} does not take the configuration ({str(error) or type(error).__name__}): run `energyai up` "
        "or set ENERGYAI_KAFKA, then apply again"
    )
