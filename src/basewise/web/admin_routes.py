"""Stub of first path."""

from __future__ import annotations

from typing import Any


def add_routes(app: Any, service: Any) -> None:
    """None yet."""
