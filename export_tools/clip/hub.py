"""Repositories of the Hugging Face hub: fetched once, resumed, found again without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from edge_sdk.errors import InputError

_WANTED = (
    "*.json",
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A repository on the disk."""

    folder: Path
    commit: str
    """What the revision stood for when it was fetched."""


def fetch(repository: str, *, revision: str | None = None, offline: bool = False) -> Fetched:
    """Fetch a repository's weights and configuration, or find them where they were fetched to.

    A download that was cut off goes on where it ended; a bar shows how far it is.

    Args:
        repository: ``owner/name``.
        revision: a commit, tag or branch; None: the newest.
        offline: use no network.

    Raises:
        InputError: there is no such repository or revision, no network, or nothing was fetched.
    """
    try:
        folder = snapshot_download(
            repository, revision=revision, local_files_only=offline, allow_patterns=list(_WANTED)
        )
    except LocalEntryNotFoundError as error:
        how = "--offline" if offline else "the hub does not answer"
        raise InputError(
            f"{repository}: {how}, and revision {revision or 'main'} was not fetched before; run "
            "the command once with a network, or give the folder that somebody fetched"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{repository}: expected a repository of the hub with revision "
            f"{revision or 'main'}: {_first_line(error)}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"{repository}: cannot be fetched: {_first_line(error)}") from error
    return Fetched(folder=Path(folder), commit=Path(folder).name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
