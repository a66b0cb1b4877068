"""Forms: what a page sent, as names with lists of texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import UploadFile


class Sent(dict[str, list[str]]):
    """The fields of a form; `one` for those that come once. Uploaded files are under `files`."""

    files: dict[str, UploadFile]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Sent:
        """The same from (name, value) pairs, such as those of an address."""
        sent = cls()
        sent.files = {}
        for name, value in pairs:
            sent.setdefault(name, []).append(value)
        return sent

    def one(self, name: str, default: str = "") -> str:
        """The first value of a field, without spaces around it."""
        values = self.get(name, [])
        return values[0].strip() if values else default


async def _sent(request: Request) -> AsyncIterator[Sent]:
    """The form of a request; its files are closed when the answer is made."""
    async with request.form() as form:
        sent = Sent.of(())
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                sent.files[name] = value
            else:
                # a browser ends lines as HTTP does; a text is to be the one that any other way in would give
                sent.setdefault(name, []).append(value.replace("\r\n", "\n"))
        yield sent


def _root(request: Request) -> Path:
    return Path(request.app.state.root)


Form = Annotated[Sent, Depends(_sent)]
Root = Annotated[Path, Depends(_root)]
