"""Stage 1: cameras, videos and folders of pictures, read as frames."""

from edge_sdk.capture.pacing import Pace
from edge_sdk.capture.selector import open_source

__all__ = ["Pace", "open_source"]
