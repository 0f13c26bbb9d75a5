"""Ten procedurally drawn stand-ins for the decathlon's domains: no download, and never to be taken for the real data."""

MARK = "stand-in"
"""Stands in `info.description` of every annotation file of a stand-in: a score on one is never an official score."""
