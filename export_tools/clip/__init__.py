"""The CLIP towers: what a configuration says, and the network it says, written to be exported."""
