"""``python -m export_tools.conformance DIR``: one row an array; 0 when all agree, 8 when not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import EdgeError, GateError
from export_tools.conformance.bundle import export_golden_set
from export_tools.conformance.check import check_golden_set
from export_tools.conformance.ledger import Row


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m export_tools.conformance",
        description="Compare this implementation with a golden set of the published method: "
        "one row an array, and a failing row for an array that no check claims.",
        epilog="Exit: 0 every array agrees, 8 one does not, 11 the set cannot be read.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder of the golden set")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="OUT",
        help="also export the set's weights as a bundle, for edge-bundle verify --conformance",
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(arguments)
    try:
        rows = check_golden_set(options.directory)
        if options.bundle is not None:
            export_golden_set(options.directory, options.bundle)
    except EdgeError as error:
        print(f"conformance: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    failed = [row for row in rows if not row.passed]
    _print_json(rows) if options.json else _print_table(rows)
    return GateError.exit_code if failed else 0


def _print_table(rows: Sequence[Row]) -> None:
    for row in rows:
        error = "-" if row.error is None else f"{row.error:.2e}"
        limit = "-" if row.limit is None else f"{row.limit:.2e}"
        verdict = "ok" if row.passed else f"FAIL  {row.remark}"
        print(f"{row.file:18} {row.key:58} {error:>9} <= {limit:<9} {verdict}")  # noqa: T201
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows)} arrays compared, {failed} failed")  # noqa: T201


def _print_json(rows: Sequence[Row]) -> None:
    document = {
        "arrays": len(rows),
        "failed": sum(not row.passed for row in rows),
        "rows": [
            {
                "file": row.file,
                "key": row.key,
                "passed": row.passed,
                "error": row.error,
                "limit": row.limit,
                "remark": row.remark,
            }
            for row in rows
        ],
    }
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
