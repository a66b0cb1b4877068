"""push: a verified release to a repository of the Hugging Face hub, as one commit."""

from __future__ import annotations

import re
from pathlib import Path

from basewise.core.errors import InputError, RunError
from basewise.core.release import Release
from basewise.engine.signing import verify

NAME = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")


def push(
    folder: str | Path,
    repo: str,
    *,
    public: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload every file of a release to `repo` ("owner/name", made if it is not there, private unless `public`); the commit's address.

    endpoint, token: as huggingface_hub reads them from HF_ENDPOINT and its login when left out. Raises RunError with the hub's reason.
    """
    if not NAME.match(repo):
        raise InputError(f"{repo!r} is no name of a repository", "write it as owner/name")
    folder = Path(folder)
    verify(folder)
    record = Release.load(folder)
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=endpoint, token=token)
    try:
        # who may write need not be allowed to create
        if not api.repo_exists(repo):
            api.create_repo(repo, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=f"{record.name} {record.id[:12]}",
            delete_patterns="*",
        )
    except errors.HFValidationError as error:
        raise InputError(
            f"{repo!r} is no name of a repository", "leave out --, .. and an end in - or ."
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise RunError("the hub asks who you are", "log in with: hf auth login") from error
    # `errors.HTTPError` is of whichever library the client speaks HTTP with; an upload that breaks off is a RuntimeError, one that the
    # hub's storage refuses a ValueError
    except (errors.HTTPError, errors.OfflineModeIsEnabled, OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(
            f"the hub did not take {folder}: {why}", "check the name, your rights and the network"
        ) from error
    return str(getattr(done, "commit_url", done))
