"""Which release answers a task: live, in the shadow, or for a share of the rows; kept in one JSON file that is whole or not there.

A change is a new value of a lane, first written to disk, then put in place: a request sees the old or the new one, never half.
Releases are named by their digest and stay open while a lane names them, so going back is one assignment.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, RunError, UnknownName
from basewise.core.files import read_json, write_json
from basewise.stats.harm import Canary, Shadow, proven
from basewise.web.limits import NotKept

STEPS = (1, 5, 25, 100)
MOST_BEFORE = 5
MOST_EVENTS = 500
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One task: versions by their part in it, the evidence for harm so far, `before` the versions that were live, latest last.

    `canary_evidence` is of labels, `failures` of whether a request got an answer at all.
    """

    live: str
    before: tuple[str, ...] = ()
    shadow: str | None = None
    canary: str | None = None
    percent: int = 0
    shadow_evidence: Shadow = field(default_factory=Shadow)
    canary_evidence: Canary = field(default_factory=Canary)
    failures: Canary = field(default_factory=Canary)

    @property
    def canary_log_e(self) -> float:
        """Natural log of the evidence against the canary: the mean of both, so that two looks are no second chance to be wrong."""
        low, high = sorted((self.canary_evidence.log_e, self.failures.log_e))
        return high + math.log((1 + math.exp(low - high)) / 2)

    @property
    def versions(self) -> set[str]:
        """All that must stay open."""
        return {self.live, *self.before} | ({self.shadow, self.canary} - {None})  # type: ignore[operator]

    def pick(self, request_id: str) -> str:
        """The version that answers a request, drawn by its id: a text that comes often is answered by both, so their rows are alike."""
        if self.canary is None:
            return self.live
        point = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=4).digest(), "big")
        return self.canary if point < self.percent / 100 * 2**32 else self.live

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "before": list(self.before),
            "shadow_evidence": self.shadow_evidence.to_dict(),
            "canary_evidence": self.canary_evidence.to_dict(),
            "failures": self.failures.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Lane:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **value,
                "before": tuple(value["before"]),
                "shadow_evidence": Shadow.from_dict(value["shadow_evidence"]),
                "canary_evidence": Canary.from_dict(value["canary_evidence"]),
                "failures": Canary.from_dict(value["failures"]) if "failures" in value else Canary(),
            }
        )


class Traffic:
    """All lanes, the folders of their releases, and what happened. Every change goes through `_put`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.lanes: dict[str, Lane] = {}
        self.folders: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.given: dict[str, str] = {}
        if self.path.exists():
            value = read_json(self.path)
            if not isinstance(value, dict) or value.get("format") != FORMAT:
                raise RunError(f"{self.path} was written by another version", "give another --state folder")
            try:
                self.lanes = {name: Lane.from_dict(lane) for name, lane in value["tasks"].items()}
                self.folders, self.events = dict(value["folders"]), list(value["events"])
                self.given = dict(value["given"])
            except (KeyError, TypeError) as error:
                raise RunError(f"{self.path} is damaged", "delete it and give the folders again") from error

    def lane(self, task: str) -> Lane:
        """The lane of a task, or UnknownName."""
        if task not in self.lanes:
            raise UnknownName.of("task", task, self.lanes)
        return self.lanes[task]

    def start(self, task: str, version: str, folder: str, opened: Set[str]) -> None:
        """A folder given when the service starts. One that it was started with before gives way to what was changed since; where that
        is not among the `opened`, it comes back if it was replaced, and not if it was rolled back."""
        lane = self.lanes.get(task)
        replaced = lane is not None and lane.live not in opened and version in lane.before
        if lane is not None and self.given.get(task) == version and not replaced:
            return
        self.given = {**self.given, task: version}
        self.live(task, version, folder)

    def live(self, task: str, version: str, folder: str) -> None:
        """Add a task, or put another release in the place of its live one at once."""
        lane = self.lanes.get(task)
        if lane is None:
            self._put(task, Lane(live=version), "added", {"version": version}, {version: folder})
        elif lane.live != version:
            before = (*(v for v in lane.before if v != version), lane.live)[-MOST_BEFORE:]
            self._put(
                task, Lane(live=version, before=before), "replaced", {"version": version}, {version: folder}
            )

    def shadow(self, task: str, version: str, folder: str) -> None:
        """Let a release answer beside the live one, unseen."""
        lane = self._other(task, version)
        new = replace(lane, shadow=version, shadow_evidence=Shadow())
        self._put(task, new, "shadow", {"version": version}, {version: folder})

    def canary(self, task: str, version: str, folder: str, percent: int) -> None:
        """Give a release a share of the rows; 100 makes it live. A larger share goes on with the evidence so far."""
        if percent not in STEPS:
            raise InputError(f"a share of {percent} % came", f"give one of {', '.join(map(str, STEPS))}")
        lane = self._other(task, version)
        if percent == 100:
            self.live(task, version, folder)
            return
        if lane.canary != version:
            lane = _without_canary(lane)
        shadow = None if lane.shadow == version else lane.shadow
        new = replace(lane, canary=version, percent=percent, shadow=shadow)
        self._put(task, new, "canary", {"version": version, "percent": percent}, {version: folder})

    def roll_back(self, task: str, why: str = "asked for") -> str:
        """Take back what was changed last: the canary, else the shadow, else the live release; the version that is live then."""
        lane = self.lane(task)
        if lane.canary is not None:
            new, gone = _without_canary(lane), lane.canary
        elif lane.shadow is not None:
            new, gone = replace(lane, shadow=None, shadow_evidence=Shadow()), lane.shadow
        elif lane.before:
            new, gone = Lane(live=lane.before[-1], before=lane.before[:-1]), lane.live
        else:
            raise InputError(f"{task} has no earlier release to go back to", "replace it with another one")
        self._put(task, new, "rolled back", {"version": gone, "to": new.live, "why": why}, {})
        return new.live

    def remove(self, task: str) -> None:
        """Serve a task no longer."""
        self.lane(task)
        self._put(task, None, "removed", {}, {})

    def keep(self, opened: Set[str]) -> None:
        """Let go of a canary, a shadow, a version to go back to that could not be opened.

        A lane whose live version could not stays whole: the service refuses its rows until the folder is back.
        """
        for task, lane in list(self.lanes.items()):
            if lane.live not in opened:
                continue
            new = replace(lane, before=tuple(v for v in lane.before if v in opened))
            if lane.canary not in opened:
                new = _without_canary(new)
            if lane.shadow not in opened:
                new = replace(new, shadow=None, shadow_evidence=Shadow())
            if new != lane:
                gone = sorted(lane.versions - new.versions)
                self._put(
                    task,
                    new,
                    "left out",
                    {"version": ", ".join(gone), "why": "could not be opened again"},
                    {},
                )

    def outcomes(self, task: str, found: list[tuple[str, bool, bool | None]]) -> str | None:
        """Truths that came: (version that answered, right, whether the shadow was right or None); why it was rolled back, if it was."""
        lane = self.lanes.get(task)
        if lane is None or not found:
            return None
        canary, shadow = lane.canary_evidence, lane.shadow_evidence
        for version, right, beside in found:
            if lane.canary is not None and version in (lane.live, lane.canary):
                canary = canary.new(right) if version == lane.canary else canary.old(right)
            if lane.shadow is not None and version == lane.live and beside is not None:
                shadow = shadow.add([(right, beside)])
        new = replace(lane, canary_evidence=canary, shadow_evidence=shadow)
        if new != lane:
            self._put(task, new, "", {}, {})
        return self._judge(task, new)

    def answered(self, task: str, found: list[tuple[str, bool]]) -> str | None:
        """(version, whether it could answer) of a request, beside a canary; why that was rolled back, if it was.

        Only its failures are written: between them there is nothing that a restart could lose but its chance to answer.
        """
        lane = self.lanes.get(task)
        if lane is None or lane.canary is None:
            return None
        failures = lane.failures
        for version, well in found:
            if version in (lane.live, lane.canary):
                failures = failures.new(well) if version == lane.canary else failures.old(well)
        new = replace(lane, failures=failures)
        if (lane.canary, False) not in found:
            self.lanes = {**self.lanes, task: new}
            return None
        self._put(task, new, "", {}, {})
        return self._judge(task, new)

    def _judge(self, task: str, lane: Lane) -> str | None:
        """Roll back on proven harm."""
        if lane.canary is not None and proven(lane.canary_log_e):
            (right, wrong), (well, failed) = lane.canary_evidence.seen_new, lane.failures.seen_new
            said = f"{wrong} of {right + wrong} labelled answers of the canary wrong, {failed} of {well + failed} requests not answered"
            why = f"proven harm: {said}, e-value at least 20"
            self.roll_back(task, why)
            return why
        if lane.shadow is not None and proven(lane.shadow_evidence.log_e):
            counts = lane.shadow_evidence
            why = f"proven harm: only the shadow wrong on {counts.old_only}, only the live one on {counts.new_only}, e-value at least 20"
            new = replace(lane, shadow=None, shadow_evidence=Shadow())
            self._put(task, new, "rolled back", {"version": lane.shadow, "to": lane.live, "why": why}, {})
            return why
        return None

    def _other(self, task: str, version: str) -> Lane:
        lane = self.lane(task)
        if version == lane.live:
            raise InputError(f"version {version} is live already", "give another release")
        return lane

    def _put(
        self, task: str, lane: Lane | None, event: str, about: dict[str, Any], folders: dict[str, str]
    ) -> None:
        """Write the state with the new lane, then let requests see it."""
        lanes = {**self.lanes}
        if lane is None:
            del lanes[task]
        else:
            lanes[task] = lane
        needed = {v for x in lanes.values() for v in x.versions}
        known = {v: f for v, f in {**self.folders, **folders}.items() if v in needed}
        events = self.events
        if event:
            events = [*events, {"at": time.time(), "task": task, "event": event, **about}][-MOST_EVENTS:]
        tasks = {name: x.to_dict() for name, x in lanes.items()}
        state = {"format": FORMAT, "tasks": tasks, "folders": known, "events": events, "given": self.given}
        try:
            write_json(self.path, state)
        except RunError as error:
            raise NotKept(error.message, "nothing was changed: make room and ask again") from error
        self.lanes, self.folders, self.events = lanes, known, events


def _without_canary(lane: Lane) -> Lane:
    return replace(lane, canary=None, percent=0, canary_evidence=Canary(), failures=Canary())
