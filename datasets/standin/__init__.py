"""Ten drawn stand-ins for the decathlon's domains: nothing is downloaded, and none is ever taken for the real data."""

MARK = "stand-in"
"""Stands in `info.description` of every annotation file of a stand-in: a score on one is never an official score."""
