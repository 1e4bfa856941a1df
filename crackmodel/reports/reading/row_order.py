"""SQL functions that say which of an image's rows counts."""

from __future__ import annotations

from typing import Final

from crackmodel.reports.schema import DEPARTED_STAGE, TRANSIENT_REJECT_CODES

_CODES: Final = ", ".join(f"'{code}'" for code in sorted(TRANSIENT_REJECT_CODES))

MACROS: Final = f"""
    CREATE MACRO is_departed(stage) AS stage IS NOT DISTINCT FROM '{DEPARTED_STAGE}';
    CREATE MACRO is_passing(verdict, code, stage) AS
        verdict = 'rejected' AND code IS NOT NULL AND code IN ({_CODES}) AND NOT is_departed(stage);
    CREATE MACRO run_number(run_id) AS
        coalesce(TRY_CAST(left(run_id, 8) || substr(run_id, 10, 6) AS BIGINT), 0);
    CREATE MACRO row_rank(run_id, verdict, code, stage) AS
        CASE WHEN is_passing(verdict, code, stage) THEN 0 ELSE 100000000000000 END + run_number(run_id)
"""
"""Is an image gone from its survey? May a rejection pass, so that it must not displace what is known of the
image? Of several rows of an image the one with the highest rank is in the view `latest`. A run's number is
the time in its name, see `run_names`; a name that crackmodel did not give comes first. `arg_max` takes
several times as long by a text as by a number."""
