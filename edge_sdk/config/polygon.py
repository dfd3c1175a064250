"""Whether a polygon drawn by hand has one inside; exact, in whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

Point: TypeAlias = tuple[int, int]
Edge: TypeAlias = tuple[Point, Point]


def polygon_fault(corners: Sequence[Point]) -> str | None:
    """Say what is wrong with a polygon.

    Args:
        corners: at least 3 corners (x, y) in order; the last is joined to the first.

    Returns:
        What was expected and what came, or None for a polygon that does not touch itself and
        has an area.
    """
    for index, corner in enumerate(corners):
        if corner in corners[:index]:
            return f"expected different corners, got {list(corner)} twice"
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    if all(_turn(corners[0], corners[1], corner) == 0 for corner in corners):
        return "expected an area above 0, got corners that lie on one line"
    for (first, edge), (second, other) in combinations(enumerate(edges), 2):
        if second - first in {1, len(edges) - 1}:
            is_fault = _fold_back(edge, other)
        else:
            is_fault = _touch(edge, other)
        if is_fault:
            return (
                "expected edges that do not cross or touch, got a crossing of "
                f"{_show(edge)} with {_show(other)}"
            )
    return None


def _turn(start: Point, end: Point, point: Point) -> int:
    """Twice the signed area of a triangle: 0 where the three lie on one line."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _lies_on(edge: Edge, point: Point) -> bool:
    (x0, y0), (x1, y1) = edge
    return (
        _turn(*edge, point) == 0
        and min(x0, x1) <= point[0] <= max(x0, x1)
        and min(y0, y1) <= point[1] <= max(y0, y1)
    )


def _touch(one: Edge, two: Edge) -> bool:
    if any(_lies_on(one, point) for point in two) or any(_lies_on(two, point) for point in one):
        return True
    one_is_split = (_turn(*one, two[0]) > 0) != (_turn(*one, two[1]) > 0)
    two_is_split = (_turn(*two, one[0]) > 0) != (_turn(*two, one[1]) > 0)
    return one_is_split and two_is_split


def _fold_back(one: Edge, two: Edge) -> bool:
    """True where two edges with a common corner lie on each other."""
    common = set(one) & set(two)
    return any(_lies_on(two, point) for point in one if point not in common) or any(
        _lies_on(one, point) for point in two if point not in common
    )


def _show(edge: Edge) -> str:
    return f"{list(edge[0])}-{list(edge[1])}"
