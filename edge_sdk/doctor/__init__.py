"""What is missing on this box, and how to get it. Works when half of everything is broken.

The parts import late, each inside the check that needs it: a library that does not load is a
finding here, not a reason to stop.
"""
