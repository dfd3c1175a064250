"""Accuracy on labelled pictures, measured through the pipeline that runs on the line.

``layouts`` finds the pictures, ``sampling`` draws the references, ``draw`` judges every picture of
a category against one draw, ``run`` does that for all draws, ``summary`` answers the questions,
``report`` shows them. What counts is in ``scores``: one row a picture, from which every figure
about whole pictures is worked out, here or by others.
"""
