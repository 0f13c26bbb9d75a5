"""Submissions to the challenge."""
