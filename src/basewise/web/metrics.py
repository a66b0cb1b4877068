"""Counters for Prometheus: requests, rows, tokens, seconds, refusals, and what the watch knows of each task."""

from __future__ import annotations

from typing import Any

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """One registry a service, so that several can live in one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()
        self._told: set[tuple[Any, tuple[str, ...]]] = set()
        named: dict[str, Any] = {"registry": registry, "namespace": "basewise"}
        self.requests = Counter("requests", "Requests by route and status.", ["route", "status"], **named)
        self.seconds = Histogram(
            "request_seconds", "Seconds until the answer.", ["route"], buckets=SECONDS, **named
        )
        self.rows = Counter("rows", "Rows answered.", ["task", "version"], **named)
        self.abstained = Counter("abstained", "Rows on which the task abstained.", ["task"], **named)
        self.tokens = Counter("tokens", "Tokens computed.", ["route"], **named)
        self.waiting = Gauge("waiting_rows", "Rows on their way.", **named)
        self.restarts = Counter("worker_restarts", "Workers that had to be started again.", **named)
        self.lost = Counter("watch_lost_rows", "Rows that the watch could not keep.", **named)
        self.estimate = Gauge(
            "estimated_accuracy", "Accuracy without labels.", ["task", "version", "bound"], **named
        )
        self.drift = Gauge(
            "drift_p_value", "Of the latest window, by test.", ["task", "version", "test"], **named
        )
        self.alarms = Gauge(
            "drift_alarms", "Sequential alarms raised since the reference.", ["task", "version"], **named
        )
        self.percent = Gauge(
            "canary_percent", "Share of the rows that the canary answers.", ["task"], **named
        )

    def text(self) -> tuple[bytes, str]:
        """What /metrics answers, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def seen(self, route: str, status: int, seconds: float) -> None:
        """One request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def watched(self, task: str, version: str, found: dict[str, Any]) -> None:
        """The latest state of the watch over a version of a task."""
        if estimate := found.get("estimated_accuracy"):
            for bound in ("estimate", "low", "high"):
                self._set(self.estimate, (task, version, bound), estimate[bound])
        for test, p in found.get("p_values", {}).items():
            self._set(self.drift, (task, version, test), p)
        self._set(self.alarms, (task, version), found.get("alarms", 0))

    def _set(self, gauge: Any, labels: tuple[str, ...], value: float) -> None:
        self._told.add((gauge, labels))
        gauge.labels(*labels).set(value)

    def forget(self, version: str) -> None:
        """What the watch has said of a version that is closed: its alarm would ring on."""
        for gauge, labels in list(self._told):
            if labels[1] == version:
                self._told.discard((gauge, labels))
                gauge.remove(*labels)
