"""The document says how many parts a run-in needs: that is what is computed."""

from __future__ import annotations

import re

from contract.tree import ROOT

from edge_sdk.metrics.false_alarms import limiting_rank, promise_at


def test_the_table_in_the_document_is_what_is_computed() -> None:
    document = (ROOT / "docs" / "enrolment.md").read_text(encoding="utf-8")
    row = r"^\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|$"
    rows = re.findall(row, document, re.MULTILINE)
    assert len(rows) >= 5
    for parts, rank, *shares in rows:
        assert int(rank) == limiting_rank(int(parts), 0.01)
        promise = promise_at(int(parts), int(rank))
        computed = [promise.expected, promise.lowest, promise.highest]
        assert shares == [f"{100 * share:.2f}" for share in computed], f"{parts} parts"
