"""Paths, presets, datasets, devices, errors and worker processes that every other room uses."""
