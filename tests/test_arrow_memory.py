"""What a process that scores does not load."""

from __future__ import annotations

import subprocess
import sys


def test_scoring_does_not_load_pandas_and_whoever_wants_it_still_can() -> None:
    code = """
import sys
from crackmodel.arrow_memory import keep_arrow_small
keep_arrow_small()
import pyarrow
import crackmodel.scoring.run
from crackmodel.reports.schema import REPORT_SCHEMA
assert pyarrow.Table.from_pylist([], schema=REPORT_SCHEMA).num_rows == 0
print("pandas" in sys.modules, "cv2" in sys.modules, pyarrow.default_memory_pool().backend_name)
import pandas
print(pandas.DataFrame({"a": [1]}).a.sum())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["False", "False", "system", "1"]
