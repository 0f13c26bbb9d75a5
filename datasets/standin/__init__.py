"""Drawn stand-ins for the ten domains: nothing is downloaded, and every file is marked as a stand-in.

Each module draws one domain: `draw(label, rng, track)` returns one image.
"""

MARK = "stand-in"
"""Part of `info.description` in every annotation file of a stand-in: a score on one is never an official score."""
