"""Run-in: a station learns from the parts it judges how good parts score, and a person watches.

The references stay as they were enrolled. The scores of the next parts, which are no references,
are what further good parts will score like; the threshold is one of the highest of them. So that no
bad part sets it, each part that would, and each that is odd among its fellows, is held until
a person has looked at its picture. Rejected parts do not count, and others take their place.

On the disk, in ``<set>/<version>/run_in/<way of scoring>/``: ``plan.json``; ``parts.jsonl``, a line
a part; ``review.jsonl``, a line an answer; and ``pictures/``. What they amount to is worked out
from them anew each time, so nothing can be half done after a power cut.
"""
