"""Which surveys a night scores, given where its report and its models are."""

from __future__ import annotations

from functools import partial

from crackmodel.reports.survey_notes import knows_survey
from crackmodel.scoring.own_folders import own_folders
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import RosterEntry, find_surveys


def surveys_tonight(root: str, settings: ScoreSettings) -> tuple[RosterEntry, ...]:
    """Find the surveys below a root, without the report, the models, and folders that are empty so far.

    An empty folder stays a survey if the report knows it, so that the night says what is wrong with it.

    Args:
        root: Folder or URI that holds the surveys' folders, or a `surveys.toml`.
        settings: Say where the report and the models are.

    Raises:
        SurveyError: There is no such root, it cannot be read, or no survey is in it.
        UsageError: An address, a setting or the roster makes no sense.
        ReportError: The report's storage cannot be reached.
    """
    return find_surveys(
        Location.parse(root),
        apart=own_folders(settings),
        is_known=partial(knows_survey, settings.report),
    )
