"""The SQL views of a report; `docs/report.md` is their reference."""

from __future__ import annotations

from typing import Final

VIEWS: Final = {
    "report": "SELECT * FROM report_rows",
    "latest": """
        SELECT * FROM report
        QUALIFY row_number() OVER (
            PARTITION BY survey, image
            ORDER BY row_rank(run_id, verdict, reject_code, reject_stage) DESC, scored_at DESC, run_id DESC
        ) = 1
    """,
    "current": "SELECT * FROM latest WHERE NOT is_departed(reject_stage)",
    # The windows of crackmodel.surveys.tiling: a grid of one tile is the whole image; otherwise the last
    # row and column are shifted inward, so that no window leaves the image.
    "tiles": """
        WITH cells AS (
            SELECT survey, image, width, height, latitude, longitude, threshold, tile_size, tile_columns,
                   tile_size - tile_overlap AS stride,
                   tile_rows = 1 AND tile_columns = 1 AS whole,
                   unnest(tile_probabilities) AS probability,
                   unnest(range(len(tile_probabilities)))::INTEGER AS cell
            FROM latest WHERE verdict <> 'rejected'
        ), placed AS (
            SELECT *, cell // tile_columns AS tile_row, cell % tile_columns AS tile_column FROM cells
        ), cornered AS (
            SELECT *,
                   CASE WHEN whole THEN 0 ELSE least(tile_column * stride, width - tile_size) END AS x0,
                   CASE WHEN whole THEN 0 ELSE least(tile_row * stride, height - tile_size) END AS y0
            FROM placed
        )
        SELECT survey, image, tile_row, tile_column, x0, y0,
               CASE WHEN whole THEN width ELSE x0 + tile_size END AS x1,
               CASE WHEN whole THEN height ELSE y0 + tile_size END AS y1,
               probability, probability >= threshold AS crack, latitude, longitude
        FROM cornered
    """,
    "rejected": "SELECT * FROM current WHERE verdict = 'rejected'",
    "unfamiliar": "SELECT * FROM latest WHERE ood_score > ood_threshold",
    "runs": """
        SELECT run_id, survey, model, min(scored_at) AS started_at, max(scored_at) AS finished_at,
               count(*) FILTER (NOT is_departed(reject_stage)) AS images,
               count(*) FILTER (verdict = 'crack') AS cracks,
               count(*) FILTER (verdict = 'clear') AS clear,
               count(*) FILTER (verdict = 'rejected' AND NOT is_departed(reject_stage)) AS rejected,
               count(*) FILTER (is_departed(reject_stage)) AS departed
        FROM report GROUP BY run_id, survey, model
    """,
}
"""The views by name, in the order in which they build on each other."""

SUMMARY: Final = """
    SELECT survey, count(*) FILTER (NOT is_departed(reject_stage)) AS images,
           count(*) FILTER (verdict = 'crack') AS cracks,
           count(*) FILTER (verdict = 'clear') AS clear,
           count(*) FILTER (verdict = 'rejected' AND NOT is_departed(reject_stage)) AS rejected,
           count(*) FILTER (verdict <> 'rejected' AND ood_score > ood_threshold) AS unfamiliar,
           count(*) FILTER (is_departed(reject_stage)) AS departed,
           arg_max(run_id, run_number(run_id)) AS last_run,
           max({'run': run_number(run_id), 'at': scored_at}).at AS last_scored
    FROM latest GROUP BY survey ORDER BY survey
"""
"""Counts of every survey for `crackmodel report summary`."""
