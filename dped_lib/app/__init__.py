"""Provide the ``dped`` command, the runner of notebooks, and what the workflow calls."""

import sys

# nbformat imports jsonschema, which compiles the grammars of this package for one to four seconds, in each job that runs a
# notebook. They check the formats "iri" and "iri-reference". No field of a notebook has them, and where the package is
# missing jsonschema does without.
sys.modules.setdefault("rfc3987_syntax", None)
