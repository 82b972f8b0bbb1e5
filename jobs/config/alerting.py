"""Alert rules and receivers into their tables, and all the rules as one message of topic `alerts.rules`."""

from __future__ import annotations

import hashlib
import json
from typing import Any

RULES_TOPIC = "alerts.rules"
RULES_KEY = "rules"
TABLES = {"alerts": ("alert_rule", "alert"), "receivers": ("alert_receiver", "receiver")}


def upsert(cursor: Any, name: str, entry: dict[str, Any]) -> int:
    """Writes one entry of section `name`; 1 when it is new or changed."""
    table, key = TABLES[name]
    cursor.execute(
        f"INSERT INTO {table} ({key}, entry) VALUES (%s, %s) ON CONFLICT ({key}) DO UPDATE "
        f"SET entry = excluded.entry, updated_at = now() WHERE {table}.entry IS DISTINCT FROM excluded.entry",
        (entry[key], json.dumps(entry)),
    )
    return int(cursor.rowcount)


def stored(cursor: Any, name: str) -> list[dict[str, Any]]:
    """The entries of section `name`, by their names."""
    table, key = TABLES[name]
    cursor.execute(f"SELECT entry FROM {table} ORDER BY {key}")
    return [entry for (entry,) in cursor.fetchall()]


def message(cursor: Any) -> dict[str, Any]:
    """All the rules: one message, so that a job swaps them at once."""
    rules = stored(cursor, "alerts")
    text = json.dumps(rules, sort_keys=True)
    return {"version": hashlib.sha256(text.encode()).hexdigest()[:16], "rules": rules}
