"""``python -m edge_sdk.config`` writes the JSON Schema of the device file to standard output."""

from __future__ import annotations

import json
import sys

from edge_sdk.config.load import config_schema

if __name__ == "__main__":
    json.dump(config_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
