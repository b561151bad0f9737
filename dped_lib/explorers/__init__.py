"""Provide interactive widgets for the notebooks, each with a still figure for headless runs."""
