"""Trigger inputs: what says that a part is in front of a camera, beside broker and HTTP."""
