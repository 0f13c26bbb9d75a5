"""Trained domains in use."""
