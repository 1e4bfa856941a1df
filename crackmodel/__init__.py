"""Find cracks in concrete, in millions of inspection photographs.

The four functions and the error tree are all that most programs need. They load what they need when
they are called: `import crackmodel` costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crackmodel.errors import CrackmodelError

if TYPE_CHECKING:
    from crackmodel.models.inference.loading import load_model
    from crackmodel.models.training.train import train_model
    from crackmodel.reports.reading.query import open_report
    from crackmodel.scoring.run import score_survey

__version__ = "0.1.0"
__all__ = ["CrackmodelError", "__version__", "load_model", "open_report", "score_survey", "train_model"]

_HOMES = {
    "load_model": "crackmodel.models.inference.loading",
    "open_report": "crackmodel.reports.reading.query",
    "score_survey": "crackmodel.scoring.run",
    "train_model": "crackmodel.models.training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public function's module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
