"""Scorers by the name that the bundle gives."""

from __future__ import annotations

from importlib.metadata import entry_points

from edge_sdk.bundle.manifest import ScorerSpec
from edge_sdk.errors import BundleError
from edge_sdk.protocols import ScorerFactory
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings

ENTRY_POINT_GROUP = "edge_sdk.scorers"
"""Entry points of this group name a function ``ScorerSpec -> ScorerFactory``."""


def build_scorer_factory(spec: ScorerSpec, *, threads: int = 1) -> ScorerFactory:
    """Make the factory of one of the bundle's scorers.

    Args:
        spec: its entry in the manifest.
        threads: compute threads, for our own; those of other distributions choose for themselves.

    Raises:
        BundleError: this runtime has no scorer of that name, or not with these parameters.
    """
    if spec.name == NearestNeighbourFactory.name:
        return NearestNeighbourFactory(NearestNeighbourSettings.from_spec(spec), threads=threads)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=spec.name):
        factory: ScorerFactory = point.load()(spec)
        return factory
    raise BundleError(f"scorers: this runtime has no scorer {spec.name!r}")
