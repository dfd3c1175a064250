"""Where good and bad pictures lie, and their masks: MVTec, VisA, BMAD, or ``good`` and ``bad``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
GOOD = "good"

_LOOKED_FOR = (
    "train/good with test/<kind> (MVTec), train/good with test/good and test/Ungood (BMAD), "
    "split_csv/1cls.csv or a .csv with the columns object,split,label,image,mask (VisA), "
    "good and bad"
)
_DEEPEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One labelled picture."""

    path: Path
    kind: str
    """``good``, or what is wrong with it."""
    mask: Path | None = None
    """A picture of the same size, above 0 where the part is bad."""

    @property
    def is_bad(self) -> bool:
        """Whether the part on it is bad."""
        return self.kind != GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One kind of part."""

    name: str
    layout: str
    """``mvtec``, ``visa``, ``bmad`` or ``folders``."""
    root: Path
    train: tuple[Path, ...]
    """Good pictures, from which references are drawn; sorted by name."""
    test: tuple[Picture, ...]
    """Pictures to judge, none of which is in ``train``."""

    def file_name(self, path: Path) -> str:
        """A picture's path below the category's folder, with forward slashes."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()


def find_categories(places: Sequence[Path]) -> list[Category]:
    """Look for categories in and below folders; sorted by name.

    Args:
        places: a category, a tree of categories, VisA's root or its csv file.

    Raises:
        InputError: there is none, two have one name, or one has no good or no bad test picture.
    """
    found: list[Category] = []
    for place in places:
        if not place.exists():
            raise InputError(f"{place}: expected a folder of pictures or a .csv file, found none")
        here = list(_below(place, place, 0))
        if not here:
            raise InputError(f"{place}: no data in a known layout; looked for {_LOOKED_FOR}")
        found += here
    names = Counter(category.name for category in found)
    for name, times in names.items():
        if times > 1:
            roots = sorted(str(c.root) for c in found if c.name == name)
            raise InputError(f"two categories are called {name!r}: {', '.join(roots)}")
    for category in found:
        _check(category)
    return sorted(found, key=lambda category: category.name)


def _below(place: Path, root: Path, depth: int) -> Iterator[Category]:
    name = place.resolve().name if place == root else place.relative_to(root).as_posix()
    for read in (_visa, _bmad, _mvtec, _good_bad):
        categories = list(read(place, name))
        if categories:
            yield from categories
            return
    if depth < _DEEPEST and place.is_dir():
        for folder in sorted(path for path in place.iterdir() if path.is_dir()):
            yield from _below(folder, root, depth + 1)


def _check(category: Category) -> None:
    bad = sum(picture.is_bad for picture in category.test)
    counts = {
        "good pictures to draw references from": len(category.train),
        "good test pictures": len(category.test) - bad,
        "bad test pictures": bad,
    }
    for what, count in counts.items():
        if not count:
            raise InputError(
                f"{category.root} ({category.layout} layout): expected {what}, found none"
            )


def _pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, or of its ``img``; sorted by name."""
    inner = folder / "img"
    chosen = inner if inner.is_dir() else folder
    if not chosen.is_dir():
        return []
    return sorted(path for path in chosen.iterdir() if path.suffix.lower() in SUFFIXES)


def _mask_of(picture: Path, *folders: Path) -> Path | None:
    """The mask with the picture's name, with or without ``_mask``."""
    for folder in folders:
        for stem in (f"{picture.stem}_mask", picture.stem):
            for suffix in (".png", *sorted(SUFFIXES - {".png"})):
                if (folder / f"{stem}{suffix}").is_file():
                    return folder / f"{stem}{suffix}"
    return None


def _mvtec(place: Path, name: str) -> Iterator[Category]:
    if not ((place / "train" / GOOD).is_dir() and (place / "test").is_dir()):
        return
    test = [
        Picture(
            path=path,
            kind=kind.name,
            mask=_mask_of(path, place / "ground_truth" / kind.name) if kind.name != GOOD else None,
        )
        for kind in sorted((place / "test").iterdir())
        for path in _pictures(kind)
    ]
    yield Category(
        name=name,
        layout="mvtec",
        root=place,
        train=tuple(_pictures(place / "train" / GOOD)),
        test=tuple(test),
    )


def _bmad(place: Path, name: str) -> Iterator[Category]:
    bad = place / "test" / "Ungood"
    if not ((place / "train" / GOOD).is_dir() and bad.is_dir()):
        return
    masks = (bad / "anomaly_mask", bad / "label", place / "test" / "anomaly_mask")
    test = [
        *(Picture(path=path, kind=GOOD) for path in _pictures(place / "test" / GOOD)),
        *(Picture(path=p, kind="ungood", mask=_mask_of(p, *masks)) for p in _pictures(bad)),
    ]
    yield Category(
        name=name,
        layout="bmad",
        root=place,
        train=tuple(_pictures(place / "train" / GOOD)),
        test=tuple(test),
    )


def _good_bad(place: Path, name: str) -> Iterator[Category]:
    """Every second good picture is there to draw references from, the others are judged."""
    if not ((place / GOOD).is_dir() and (place / "bad").is_dir()):
        return
    good = _pictures(place / GOOD)
    test = [
        *(Picture(path=path, kind=GOOD) for path in good[1::2]),
        *(
            Picture(path=path, kind="bad", mask=_mask_of(path, place / "masks"))
            for path in _pictures(place / "bad")
        ),
    ]
    yield Category(
        name=name,
        layout="folders",
        root=place,
        train=tuple(good[::2]),
        test=tuple(test),
    )


def _visa(place: Path, _: str) -> Iterator[Category]:
    table = place / "split_csv" / "1cls.csv" if place.is_dir() else place
    if table.suffix.lower() != ".csv" or not table.is_file():
        return
    base = table.parent.parent if table.parent.name == "split_csv" else table.parent
    wanted = ["object", "split", "label", "image", "mask"]
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(wanted) <= set(reader.fieldnames or ()):
            raise InputError(f"{table}: expected the columns {wanted}, got {reader.fieldnames}")
        rows = list(reader)
    for name in sorted({row["object"] for row in rows}):
        mine = [row for row in rows if row["object"] == name]
        yield Category(
            name=name,
            layout="visa",
            root=base / name,
            train=tuple(sorted(base / r["image"] for r in mine if r["split"] == "train")),
            test=tuple(_visa_picture(base, r) for r in mine if r["split"] == "test"),
        )


def _visa_picture(base: Path, row: dict[str, str]) -> Picture:
    is_good = row["label"] == "normal"
    mask = base / row["mask"] if row["mask"] and not is_good else None
    return Picture(path=base / row["image"], kind=GOOD if is_good else row["label"], mask=mask)
