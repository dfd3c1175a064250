"""What adapters are trained on: pictures whose defects are known, and good ones beside each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.evaluation.layouts import SUFFIXES, Category, find_categories
from edge_sdk.imaging import read_image, resize_mask, resize_picture
from edge_sdk.records import BoolArray, UInt8Array
from export_tools.training.nuisance import spoil_harmlessly
from export_tools.training.synthetic import paste_defect

LARGEST_SIDE_PX = 1024
"""Of pictures that something is done to; larger ones are reduced first."""
_NAMED = 3
"""Files in a message before it says how many more there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to a picture when it is read; the same seed always does the same."""

    seed: int
    with_defect: bool
    """Paste a defect, after what lamp and camera do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A picture as the backbone sees it."""

    path: Path
    mask: Path | None = None
    """A picture of the same size, above 0 where the piece is bad; None: it is good."""
    change: Change | None = None

    @property
    def is_bad(self) -> bool:
        """Whether something on it is to be found."""
        return self.mask is not None or (self.change is not None and self.change.with_defect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One query, and the good pictures of which one is drawn beside it in every epoch."""

    category: str
    group: str
    """Examples of one group are on one side of the split: they show the same piece."""
    source: Source
    prompts: tuple[Source, ...]

    @property
    def is_bad(self) -> bool:
        """Whether something on it is to be found."""
        return self.source.is_bad


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseData:
    """Everything to train on and to hold out of."""

    examples: tuple[Example, ...]
    left_out: int
    """Bad pictures without a mask, where others of their category have one."""
    description: str
    """For the file of adapters: what they saw."""


def read_source(source: Source) -> tuple[UInt8Array, BoolArray]:
    """A picture, and where it is bad.

    Returns:
        (H, W, 3) uint8 RGB, (H, W) bool.

    Raises:
        InputError: a file cannot be read, or the mask has another size or marks nothing.
    """
    pixels = read_image(source.path)
    mask = read_mask(source.mask, pixels)
    if source.change is None:
        return pixels, mask
    pixels, mask = _reduced(pixels, mask)
    rng = np.random.default_rng(source.change.seed)
    pixels, mask = spoil_harmlessly(pixels, mask, rng)
    return paste_defect(pixels, rng) if source.change.with_defect else (pixels, mask)


def _reduced(pixels: UInt8Array, mask: BoolArray) -> tuple[UInt8Array, BoolArray]:
    """Backbones see less than this, and what is pasted takes time for every pixel."""
    height, width = pixels.shape[:2]
    scale = LARGEST_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels, mask
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = resize_picture(pixels, size, kernel="area", antialias=True)
    return small, resize_mask(mask, size) if mask.any() else np.zeros(size, bool)


def read_mask(path: Path | None, pixels: UInt8Array) -> BoolArray:
    """(H, W) bool; all false where there is no file.

    Raises:
        InputError: the mask has another size than its picture, or marks nothing.
    """
    if path is None:
        return np.zeros(pixels.shape[:2], bool)
    mask = np.asarray(read_image(path).max(axis=2) > 0)
    if mask.shape != pixels.shape[:2]:
        raise InputError(
            f"{path}: expected the size of its picture, {pixels.shape[1]}x{pixels.shape[0]}, "
            f"got {mask.shape[1]}x{mask.shape[0]}"
        )
    if not mask.any():
        raise InputError(f"{path}: the mask of a bad picture marks nothing")
    return mask


def collect(
    *,
    labelled: Sequence[Path],
    pairs: Sequence[Path],
    good: Sequence[Path],
    variants: int,
    seed: int,
) -> BaseData:
    """Find the base data.

    Args:
        labelled: categories with masks, or trees of them, in the layouts of ``edge-eval``.
        pairs: folders with ``template``, ``tested`` and ``mask``, whose files have equal names.
        good: folders of good pictures, which defects are pasted on.
        variants: pictures with a pasted defect for each good one.
        seed: of what is pasted.

    Raises:
        InputError: nothing was found, a bad picture has no mask, or there is one class alone.
    """
    found = find_categories(labelled) if labelled else []
    left_out = 0
    examples: list[Example] = []
    for category in found:
        usable, without = _labelled(category)
        examples += usable
        left_out += without
    for place in pairs:
        examples += _pairs(place, seed)
    for place in good:
        examples += _pasted(place, variants, seed)
    bad = sum(example.is_bad for example in examples)
    if not bad or bad == len(examples):
        raise InputError(
            f"base data: expected good and bad pictures, got {len(examples) - bad} good and "
            f"{bad} bad"
        )
    return BaseData(examples=tuple(examples), left_out=left_out, description=_describe(examples))


def seed_of(*parts: object) -> int:
    """A seed out of words and numbers: the same on every machine, whatever the order of files."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _labelled(category: Category) -> tuple[list[Example], int]:
    """As published: queries are the test pictures, prompts the training pictures."""
    bad = [picture for picture in category.test if picture.is_bad]
    bare = [picture.path for picture in bad if picture.mask is None]
    if len(bare) == len(bad):
        raise InputError(
            f"{category.root}: expected masks of its {len(bad)} bad pictures, found none "
            f"(looked for {_some(bare)} below ground_truth); a category without masks can be "
            "trained on by defects pasted on its good pictures: --synthetic"
        )
    prompts = tuple(Source(path=path) for path in category.train)
    examples = [
        Example(
            category=category.name,
            group=str(picture.path),
            source=Source(path=picture.path, mask=picture.mask),
            prompts=prompts,
        )
        for picture in category.test
        if picture.mask is not None or not picture.is_bad
    ]
    return examples, len(bare)


def _pairs(place: Path, seed: int) -> list[Example]:
    """Each tested piece against its own template, and that template, photographed anew, too."""
    folders = {name: _by_stem(place / name) for name in ("template", "tested", "mask")}
    tested, templates, masks = (folders[name] for name in ("tested", "template", "mask"))
    if not tested:
        raise InputError(f"{place}: expected template, tested and mask with pictures, found none")
    for name in ("template", "mask"):
        missing = sorted(tested.keys() - folders[name].keys())
        if missing:
            raise InputError(
                f"{place / name}: expected a picture for each of the {len(tested)} tested ones, "
                f"got none for {_some([tested[stem] for stem in missing])}"
            )
    examples = []
    for stem in sorted(tested):
        prompts = (Source(path=templates[stem]),)
        for path, mask in ((tested[stem], masks[stem]), (templates[stem], None)):
            # A template beside itself would differ in nothing, which no camera ever shows; and
            # what is done to one of the two is done to both, or it would give the answer away.
            change = Change(seed=seed_of(seed, stem, mask is None), with_defect=False)
            examples.append(
                Example(
                    category=f"pairs:{place.name}",
                    group=stem,
                    source=Source(path=path, mask=mask, change=change),
                    prompts=prompts,
                )
            )
    return examples


def _pasted(place: Path, variants: int, seed: int) -> list[Example]:
    """Good pictures as they are, photographed anew, and with defects pasted on."""
    examples: list[Example] = []
    for folder, pictures in _good_folders(place):
        if len(pictures) < 2:
            raise InputError(f"{folder}: expected at least 2 good pictures, got {len(pictures)}")
        for path in pictures:
            others = tuple(Source(path=other) for other in pictures if other != path)
            for number in range(2 * variants):
                with_defect = number % 2 == 1
                change = Change(seed=seed_of(seed, path.name, number), with_defect=with_defect)
                examples.append(
                    Example(
                        category=f"synthetic:{_name_of(folder)}",
                        group=str(path),
                        source=Source(path=path, change=change if number else None),
                        prompts=others,
                    )
                )
    return examples


def _good_folders(place: Path) -> list[tuple[Path, list[Path]]]:
    """Folders of good pictures: ``train/good`` of every category below, or the place itself."""
    if not place.is_dir():
        raise InputError(f"{place}: expected a folder of good pictures, found none")
    own = _pictures(place)
    if own:
        return [(place, own)]
    found = [(folder, _pictures(folder)) for folder in sorted(place.glob("**/train/good"))]
    found = found or [(folder, _pictures(folder)) for folder in sorted(place.glob("**/good"))]
    usable = [(folder, pictures) for folder, pictures in found if pictures]
    if not usable:
        raise InputError(
            f"{place}: expected pictures ({', '.join(sorted(SUFFIXES))}), or categories with "
            "train/good below, found neither"
        )
    return usable


def _name_of(folder: Path) -> str:
    """``tile`` of ``tile/train/good``."""
    names = [part for part in folder.parts if part not in ("train", "good")]
    return names[-1] if names else folder.name


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _pictures(folder)}


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _some(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(path.name for path in paths[:_NAMED]) + more


def _describe(examples: Iterable[Example]) -> str:
    counts: dict[str, list[int]] = {}
    for example in examples:
        counts.setdefault(example.category, [0, 0])[example.is_bad] += 1
    return "; ".join(f"{name} ({good} good, {bad} bad)" for name, (good, bad) in counts.items())
