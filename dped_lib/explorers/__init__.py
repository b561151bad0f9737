"""Widgets with which the notebooks explore alignment, losses and enhancement."""
