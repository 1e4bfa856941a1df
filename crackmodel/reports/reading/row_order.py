"""Which of an image's rows counts: SQL functions for the views, and for every comparison."""

from __future__ import annotations

from typing import Final

from crackmodel.reports.schema import DEPARTED_STAGE, TRANSIENT_REJECT_CODES

_CODES: Final = ", ".join(f"'{code}'" for code in sorted(TRANSIENT_REJECT_CODES))

MACROS: Final = f"""
    CREATE MACRO is_departed(stage) AS stage IS NOT DISTINCT FROM '{DEPARTED_STAGE}';
    CREATE MACRO is_passing(verdict, code, stage) AS
        verdict = 'rejected' AND code IS NOT NULL AND code IN ({_CODES}) AND NOT is_departed(stage);
    CREATE MACRO row_rank(run_number, verdict, code, stage) AS
        run_number - CASE WHEN is_passing(verdict, code, stage) THEN 1000000000 ELSE 0 END
"""
"""Is an image gone from its survey? May a rejection pass, so that it must not displace what is known of the
image? Of several rows of an image the one with the highest rank is in the view `latest`. Runs are numbered in
the order of their names, for `arg_max` takes several times as long by a text as by a number."""
