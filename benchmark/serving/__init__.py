"""Serving: predictions with trained domains on one shared backbone."""
