"""What the site teaches a camera: reference pictures, the thresholds fitted on them, a token cache.

``state_dir/cameras/<camera>/reference_sets/<name>/<version>/`` holds ``set.json`` (written once),
``pictures/`` and ``thresholds/``. The pictures are the truth: a new bundle encodes them again.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.durable_files import read_json, sync_folder, write_durably
from edge_sdk.errors import ConfigError, InputError
from edge_sdk.imaging import decode_image, encode_png
from edge_sdk.records import Frame, PatchFeatures, Preprocessed, Threshold, TokenGrid, UInt8Array

_SET_FORMAT = 1
_DIGEST_BYTES = 32
_UNDONE = ".undone"
_CLASS_TOKEN = "class_token"  # noqa: S105 - an array's name
_CACHE_FILES = 512
_CACHE_BYTES = 2**30
"""Cached pictures kept, newest first; a few hundred kB each, 17 MB of a large transformer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferencePicture:
    """One known-good picture, as enrolled."""

    sha256: str
    """Of its PNG file."""
    pixels: UInt8Array
    """(H, W, 3) RGB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceSet:
    """One version of a named set."""

    camera: str
    name: str
    version: int
    pictures: tuple[ReferencePicture, ...]
    folder: Path
    description: Mapping[str, Any]
    """``set.json``: source, ``enrolled_at``, and for each picture where it came from."""

    @property
    def label(self) -> str:
        """What messages call it, for example ``default/3``."""
        return f"{self.name}/{self.version}"

    @property
    def camera_settings(self) -> Mapping[str, float | int | str] | None:
        """How the camera was set for these pictures; None: it could not tell, or is another one."""
        return self.description.get("camera_settings")


class ReferenceStore:
    """The reference sets of one camera."""

    def __init__(self, state_dir: Path, camera: str) -> None:
        self._camera = camera
        self._root = state_dir / "cameras" / camera / "reference_sets"

    def save(
        self,
        name: str,
        frames: Sequence[Frame],
        *,
        source: str,
        camera_settings: Mapping[str, float | int | str] | None = None,
    ) -> ReferenceSet:
        """Write the next version of a set; it is there whole after a power cut, or not at all.

        Args:
            name: of the set.
            frames: the good pictures, in order.
            source: where they came from, free of credentials.
            camera_settings: how the camera was set for all of them; None: it could not tell.

        Raises:
            InputError: no picture.
            ConfigError: the state folder cannot be written.
        """
        if not frames:
            raise InputError(f"reference set {name!r}: expected at least one picture, got none")
        try:
            version = max([0, *self.versions(name), *self._undone(name)]) + 1
            settings = {} if camera_settings is None else {"camera_settings": camera_settings}
            about = {"source": source, **settings}
            self._write(self._root / name / f"{version:04d}", frames, about)
        except OSError as error:
            raise ConfigError(
                f"state folder: {error.filename or self._root}: cannot be written: {error.strerror}"
            ) from error
        return self.load(name)

    def _write(self, folder: Path, frames: Sequence[Frame], about: Mapping[str, Any]) -> None:
        """Write a version beside its place, and move it there when all of it is on the disk."""
        staging = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "pictures").mkdir(parents=True)
        entries = []
        for index, frame in enumerate(frames):
            data = encode_png(frame.pixels)
            file = f"pictures/{index:02d}.png"
            write_durably(staging / file, data)
            entries.append(
                {
                    "file": file,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "frame_id": frame.frame_id,
                    "captured_at": frame.captured_at.isoformat(),
                }
            )
        description = {
            "format": _SET_FORMAT,
            "camera": self._camera,
            "name": folder.parent.name,
            "version": int(folder.name),
            **about,
            "enrolled_at": datetime.now(timezone.utc).isoformat(),
            "pictures": entries,
        }
        write_durably(staging / "set.json", json.dumps(description, indent=1).encode())
        sync_folder(staging / "pictures")
        sync_folder(staging)
        staging.rename(folder)
        sync_folder(folder.parent)

    def versions(self, name: str) -> list[int]:
        """Complete versions of a set, ascending."""
        folder = self._root / name
        if not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())

    def undo(self, name: str) -> str:
        """Take the newest version of a set out of use; the one before it is in use again.

        Its pictures stay on the disk, and its number is not given again: messages name it.

        Returns:
            The label of the version that was taken out.

        Raises:
            InputError: there is no version.
            ConfigError: the state folder cannot be written.
        """
        version = self._newest(name)
        folder = self._root / name / f"{version:04d}"
        try:
            folder.rename(folder.with_name(f"{folder.name}{_UNDONE}"))
            sync_folder(folder.parent)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be renamed: {error.strerror}") from error
        return f"{name}/{version}"

    def check_known(self, name: str) -> None:
        """Check that there is such a set.

        Raises:
            InputError: there is not; names those that there are.
        """
        self._newest(name)

    def _undone(self, name: str) -> list[int]:
        folder = self._root / name
        found = folder.glob(f"*{_UNDONE}") if folder.is_dir() else ()
        numbers = [path.name.removesuffix(_UNDONE) for path in found]
        return [int(number) for number in numbers if number.isdigit()]

    def _newest(self, name: str) -> int:
        versions = self.versions(name)
        if not versions:
            known = ", ".join(self.names()) or "none"
            raise InputError(
                f"camera {self._camera}: no reference set {name!r} (enrolled: {known}); "
                "show it good parts with edge-enroll, same --camera and --state"
            )
        return versions[-1]

    def names(self) -> list[str]:
        """Names of the sets that have a version."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if self.versions(path.name))

    def load_frames(self, name: str) -> list[Frame]:
        """The pictures of a set's newest version as the frames they were taken as.

        Raises:
            InputError: there is none, or its files are not what ``set.json`` says.
        """
        kept = self.load(name)
        entries = kept.description["pictures"]
        return [
            Frame(
                pixels=picture.pixels,
                frame_id=int(entry.get("frame_id", 0)),
                source_id="reference",
                captured_at=datetime.fromisoformat(entry["captured_at"]),
                monotonic_ns=0,
            )
            for picture, entry in zip(kept.pictures, entries, strict=True)
        ]

    def load(self, name: str, *, version: int | None = None) -> ReferenceSet:
        """Read a version of a set; None: the newest.

        Raises:
            InputError: there is none, or its files are not what ``set.json`` says.
        """
        version = self._newest(name) if version is None else version
        folder = self._root / name / f"{version:04d}"
        description = read_json(folder / "set.json")
        if description.get("format") != _SET_FORMAT:
            raise InputError(
                f"{folder / 'set.json'}: expected format {_SET_FORMAT}, "
                f"got {description.get('format')!r}"
            )
        pictures = []
        for file, sha256 in _listed_pictures(description, folder / "set.json"):
            path = folder / file
            if not path.is_file():
                raise InputError(f"{path}: the reference picture is missing; enrol again")
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest != sha256:
                raise InputError(f"{path}: expected sha256 {sha256}, got {digest}; enrol again")
            pixels = decode_image(data, name=str(path))
            pictures.append(ReferencePicture(sha256=digest, pixels=pixels))
        return ReferenceSet(
            camera=self._camera,
            name=name,
            version=version,
            pictures=tuple(pictures),
            folder=folder,
            description=description,
        )


def _listed_pictures(description: dict[str, Any], path: Path) -> list[tuple[str, str]]:
    try:
        return [(str(entry["file"]), str(entry["sha256"])) for entry in description["pictures"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a reference set ({error!r}); enrol again") from error


def load_threshold(references: ReferenceSet, key: str) -> Threshold | None:
    """The threshold fitted on these references for one way of scoring.

    Args:
        references: the set.
        key: digest of extractor, precision, scorer and region settings.

    Returns:
        None where none was fitted for that key yet.

    Raises:
        InputError: the file is there but not readable.
    """
    path = references.folder / "thresholds" / f"{key}.json"
    return _read_threshold(path) if path.is_file() else None


def load_thresholds(references: ReferenceSet) -> list[Threshold]:
    """All thresholds that were fitted on these references, one a way of scoring.

    Raises:
        InputError: a file is not readable.
    """
    return [
        _read_threshold(path) for path in sorted((references.folder / "thresholds").glob("*.json"))
    ]


def _read_threshold(path: Path) -> Threshold:
    stored = read_json(path)
    try:
        interval = stored.get("false_alarm_interval")
        lists = {
            "good_scores": tuple(stored["good_scores"]),
            "false_alarm_interval": None if interval is None else tuple(interval),
        }
        threshold = Threshold(**{**stored, **lists})
        is_sound = all(math.isfinite(number) for number in _numbers_of(threshold))
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a threshold ({error}); delete it to fit again") from error
    if not is_sound or not isinstance(threshold.provisional, bool):
        raise InputError(f"{path}: not a threshold ({stored}); delete it to fit again")
    return threshold


def _numbers_of(threshold: Threshold) -> tuple[float, ...]:
    rate = threshold.expected_false_alarm_rate
    given = () if rate is None else (rate,)
    return (threshold.value, threshold.pictures, *threshold.good_scores, *given)


def save_threshold(references: ReferenceSet, key: str, threshold: Threshold) -> None:
    """Keep a threshold beside the references it was fitted on."""
    folder = references.folder / "thresholds"
    folder.mkdir(exist_ok=True)
    partial = folder / f".{key}.partial"
    write_durably(partial, json.dumps(asdict(threshold), indent=1).encode())
    partial.rename(folder / f"{key}.json")
    sync_folder(folder)


class TokenCache:
    """Tokens of reference pictures, so that a start need not encode them again.

    A cache: whatever is missing, damaged or from another extractor is encoded anew.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "token_cache"

    def read(self, key: str, preprocessed: Preprocessed, extractor_id: str) -> PatchFeatures | None:
        """Tokens stored under ``key``, or None."""
        path = self._folder / f"{key}.npz"
        if not path.is_file():
            return None
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:  # cut off or damaged: never parsed
            return None
        tokens, class_token = {}, None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            for name in arrays.files:
                if name == _CLASS_TOKEN:
                    class_token = arrays[name]
                    continue
                stream, layer, rows, cols = name.split(":")
                tokens[stream, int(layer)] = TokenGrid(
                    rows=arrays[name], grid=(int(rows), int(cols))
                )
        return PatchFeatures(
            tokens=tokens,
            class_token=class_token,
            extractor_id=extractor_id,
            preprocessed=preprocessed,
        )

    def write(self, key: str, features: PatchFeatures) -> None:
        """Store tokens under ``key`` and drop the oldest beyond the limit."""
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            f"{stream}:{layer}:{grid.grid[0]}:{grid.grid[1]}": grid.rows
            for (stream, layer), grid in features.tokens.items()
        }
        if features.class_token is not None:
            arrays[_CLASS_TOKEN] = features.class_token
        partial = self._folder / f".{key}.partial.npz"
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as bool
        data = buffer.getvalue()
        partial.write_bytes(hashlib.sha256(data).digest() + data)
        partial.rename(self._folder / f"{key}.npz")
        files = sorted(self._folder.glob("*.npz"), key=lambda path: -path.stat().st_mtime)
        total = 0
        for number, path in enumerate(files):
            total += path.stat().st_size
            if number >= _CACHE_FILES or (total > _CACHE_BYTES and number):
                path.unlink(missing_ok=True)
