"""Whether this implementation is the published method: every array of a golden set, compared.

    python -m export_tools.conformance DIR [--json]

A golden set is a folder laid out like the one that was made by running the published program on a
small CLIP with random weights. Each of its arrays gets a row; an array that no check claims fails.
"""
