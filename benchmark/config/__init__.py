"""Requests as plain values: profiles and recipes, specs of runs, their hashes, backbone names, folders."""
