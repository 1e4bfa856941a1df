"""What a process that only scores need not load."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


def keep_arrow_small() -> None:
    """Let pyarrow load no pandas and give memory back, in this process and for good.

    To learn whether a value is a data frame, pyarrow imports pandas the first time that it converts any
    value: most of a second, and 60 MB in every worker. For processes of our own alone, which never
    call `to_pandas`. `import pandas` works as before.

    Arrow's own allocator keeps what it has freed: reading a million rows leaves 120 MB behind, the C
    library's 20. That is decided when pyarrow is imported; `ARROW_DEFAULT_MEMORY_POOL` chooses otherwise.

    Does nothing where pandas is loaded already.
    """
    if "pandas" in sys.modules:
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    absent = _PandasIsAbsent()
    sys.meta_path.insert(0, absent)
    try:
        import pyarrow

        pyarrow.array([0])  # it asks now, and never again
    finally:
        sys.meta_path.remove(absent)


class _PandasIsAbsent(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None, /) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not for this process", name=fullname)
