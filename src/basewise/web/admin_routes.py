"""Changing releases while requests run: replace, shadow, canary, roll back, remove; for admin keys."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from basewise.web import answers, contract
from basewise.web.documents import body, gives
from basewise.web.keys import Key
from basewise.web.limits import Refusal
from basewise.web.service import Service

LANE = gives(answers.Lane)


def lane_line(service: Service, name: str) -> dict[str, Any]:
    """A lane as JSON, with the evidence for harm as e-values."""
    lane = service.traffic.lane(name)
    record = lane.to_dict()
    record["shadow_evidence"]["log_e"] = round(lane.shadow_evidence.log_e, 4)
    record["canary_evidence"]["log_e"] = round(lane.canary_evidence.log_e, 4)
    record["failures"]["log_e"] = round(lane.failures.log_e, 4)
    return {"name": name, **record}


async def _read(
    service: Service, request: Request, name: str | None = None
) -> tuple[Key | None, contract.Change]:
    """The key, admitted to the task `name` where it is known, and what is asked; read before the lock is taken, so that a slow
    client holds up no other change."""
    key = service.admit(request, name, admin=True)
    asked = contract.read(contract.Change, await service.body(request))
    if "\x00" in asked.folder:
        raise Refusal(422, "folder", "a folder's name holds no NUL; give another")
    return key, asked


def _other_task(about: dict[str, Any], live: dict[str, Any]) -> Refusal | None:
    """Why a release cannot answer in the place of the live one; classes may come and go, but not all of them."""
    if about["inputs"] != live["inputs"]:
        return Refusal(
            422, "other_inputs", "the release reads other columns than the live one; serve it as a task"
        )
    if not set(about["classes"]) & set(live["classes"]):
        return Refusal(
            422, "other_classes", "the release has no class of the live one; serve it as a task of its own"
        )
    return None


def add_routes(app: FastAPI, service: Service) -> None:
    """Add these routes. A release is opened beside the running ones first; only an opened one is put in place."""
    described = body(contract.Change)

    async def opened(asked: contract.Change, name: str | None, key: Key | None = None) -> dict[str, Any]:
        live = None if name is None else service.about.get(service.traffic.lane(name).live)
        about = await service.open(asked.folder)
        # only the opened release says whose it is
        if key is not None and not key.may(about["task"]):
            await service.forget_unused()
            service.permit(key, about["task"])
        if live is not None and (refusal := _other_task(about, live)) is not None:
            await service.forget_unused()
            raise refusal
        return about

    async def done(name: str) -> dict[str, Any]:
        await service.forget_unused()
        return lane_line(service, name)

    @app.post("/v1/admin/tasks", responses=LANE, openapi_extra=described, tags=["admin"])
    async def add(request: Request) -> dict[str, Any]:
        """Serve a folder as a task of its own name; where that task is served already, the folder takes its place."""
        key, asked = await _read(service, request)
        async with service.changing:
            about = await opened(asked, None, key)
            service.traffic.live(about["task"], about["version"], about["folder"])
            return await done(about["task"])

    @app.post("/v1/admin/tasks/{name}/replace", responses=LANE, openapi_extra=described, tags=["admin"])
    async def replace(name: str, request: Request) -> dict[str, Any]:
        """Put a release in the place of the live one at once."""
        _, asked = await _read(service, request, name)
        async with service.changing:
            about = await opened(asked, name)
            service.traffic.live(name, about["version"], about["folder"])
            return await done(name)

    @app.post("/v1/admin/tasks/{name}/shadow", responses=LANE, openapi_extra=described, tags=["admin"])
    async def shadow(name: str, request: Request) -> dict[str, Any]:
        """Let a release answer the same rows unseen; it is dropped when labels prove it worse (e-value 20)."""
        _, asked = await _read(service, request, name)
        async with service.changing:
            about = await opened(asked, name)
            service.traffic.shadow(name, about["version"], about["folder"])
            return await done(name)

    @app.post("/v1/admin/tasks/{name}/canary", responses=LANE, openapi_extra=described, tags=["admin"])
    async def canary(name: str, request: Request) -> dict[str, Any]:
        """Give a release 1, 5, 25 or 100 % of the rows; rolled back when labels prove it worse (e-value 20)."""
        _, asked = await _read(service, request, name)
        async with service.changing:
            about = await opened(asked, name)
            service.traffic.canary(name, about["version"], about["folder"], asked.percent or 1)
            return await done(name)

    _add_backwards(app, service)


def _add_backwards(app: FastAPI, service: Service) -> None:
    @app.post("/v1/admin/tasks/{name}/rollback", responses=LANE, tags=["admin"])
    async def rollback(name: str, request: Request) -> dict[str, Any]:
        """Take back the canary, else the shadow, else the live release; what was before is open still."""
        service.admit(request, name, admin=True)
        async with service.changing:
            lane = service.traffic.lane(name)
            if lane.canary is None and lane.shadow is None and lane.before:
                service.opened(lane.before[-1])
            service.traffic.roll_back(name)
            return lane_line(service, name)

    @app.delete("/v1/admin/tasks/{name}", responses=gives(answers.Removed), tags=["admin"])
    async def remove(name: str, request: Request) -> dict[str, Any]:
        """Serve a task no longer."""
        service.admit(request, name, admin=True)
        async with service.changing:
            service.traffic.remove(name)
            await service.forget_unused()
        return {"removed": name}

    @app.get("/v1/admin/tasks", responses=gives(answers.Lanes), tags=["admin"])
    async def lanes(request: Request) -> dict[str, Any]:
        """Every lane that the key opens with its evidence and the folders of its versions, and what happened to these tasks."""
        key = service.admit(request, admin=True)
        # folders stand here only: a key that is no admin's is not told where they lie
        found = [
            {
                **lane_line(service, name),
                "folders": {v: service.traffic.folders[v] for v in sorted(lane.versions)},
            }
            for name, lane in service.traffic.lanes.items()
            if key is None or key.may(name)
        ]
        events = [e for e in service.traffic.events if key is None or key.may(e["task"])]
        return {"tasks": found, "events": events, "worker_restarts": service.link.restarts}
