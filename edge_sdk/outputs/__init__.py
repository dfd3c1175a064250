"""The reject/hold line: what a part's verdict does at once, long before it is published."""
