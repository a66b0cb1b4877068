"""Counters for Prometheus: requests, rows, tokens, seconds, refusals, and what the watch knows of each task."""

from __future__ import annotations

from typing import Any

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """One registry a service, so that several can live in one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()
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
        self.estimate = Gauge("estimated_accuracy", "Accuracy without labels.", ["task", "bound"], **named)
        self.drift = Gauge("drift_p_value", "Of the latest window, by test.", ["task", "test"], **named)
        self.alarms = Gauge(
            "drift_alarms", "Sequential alarms raised since the reference.", ["task"], **named
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

    def watched(self, task: str, found: dict[str, Any]) -> None:
        """The latest state of a task's watch."""
        if estimate := found.get("estimated_accuracy"):
            for bound in ("estimate", "low", "high"):
                self.estimate.labels(task, bound).set(estimate[bound])
        for test, p in found.get("p_values", {}).items():
            self.drift.labels(task, test).set(p)
        self.alarms.labels(task).set(found.get("alarms", 0))
