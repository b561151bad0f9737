"""Provide the ``dped`` command, the runner of notebooks, and what the workflow calls."""
