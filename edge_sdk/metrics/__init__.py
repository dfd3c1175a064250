"""Figures of merit, each with its definition; used by both halves."""

from edge_sdk.metrics.ranking import auroc, escapes_at

__all__ = ["auroc", "escapes_at"]
