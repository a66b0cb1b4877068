"""The embedded sample: 1,000 help-desk messages in 12 queues, made up for this project, with faults planted in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def path() -> Path:
    """The table: ticket_id, customer, date, channel, text, queue (the target) and routing_code (gives the queue away)."""
    return FOLDER / "tickets.csv"


def planted() -> dict[str, Any]:
    """What an audit should find: {kind of fault: row positions, or pairs of them}, and the leaking column's name."""
    return json.loads((FOLDER / "planted.json").read_text("utf-8"))
