"""How the shipped model's training inputs were distributed, for a model that was trained before models carried that.

python -m models.reference --data cambridge-estates --card models/shipped/card.json

It stands in the card, and not in the model's file: that stays what it was, and with it all that is kept by its
checksum.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from models.data_sources import load_cambridge
from models.dataset import MeterSeries
from models.estate import InMemory
from operators.serving.drift import REFERENCE


def completed(card: dict[str, object], series: MeterSeries, until_ms: int, seed: int, unseen: Sequence[str]) -> None:
    """Adds the reference to a card.

    Raises:
        ValueError: the card is of other meters than the data.
    """
    share = len(unseen) / len(series.names)
    estate = InMemory.of([series], until_ms, seed, share)
    if list(estate.facts().unseen) != list(unseen):
        raise ValueError("the card names other meters as unseen: give the data that its model was trained on")
    card[REFERENCE] = json.loads(estate.reference())


def main(argv: Sequence[str] | None = None) -> int:
    """Completes a card in place; exit code 2 on bad data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Cambridge Estates archive")
    parser.add_argument("--card", type=Path, required=True, help="the model's card.json")
    args = parser.parse_args(argv)
    try:
        card = json.loads(args.card.read_text(encoding="utf-8"))
        data = card["data"]
        until = datetime.fromisoformat(data["train_until"]).replace(tzinfo=UTC)
        completed(
            card, load_cambridge(args.data), int(until.timestamp() * 1000), card["training"]["seed"], data["unseen"]
        )
    except (OSError, ValueError, KeyError) as error:
        print(f"reference: {error}", file=sys.stderr)
        return 2
    args.card.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
