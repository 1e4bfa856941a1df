"""Which surveys there are tonight."""

from __future__ import annotations

from pathlib import Path

import pytest

from crackmodel.errors import SurveyError, UsageError
from crackmodel.surveys.roster import RosterEntry, find_surveys


def test_every_folder_is_a_survey(tmp_path: Path) -> None:
    for name in ("bridge-07", "tunnel", ".trash", "_report"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("no survey")

    assert find_surveys(tmp_path) == (
        RosterEntry(f"{tmp_path}/bridge-07", "bridge-07"),
        RosterEntry(f"{tmp_path}/tunnel", "tunnel"),
    )


def test_a_roster_decides_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "not-listed").mkdir()
    (tmp_path / "surveys.toml").write_text(
        """
        [[survey]]
        uri = "bridges/07"
        name = "bridge-07"
        tile = 256
        owner = "North district"

        [[survey]]
        uri = "s3://photos/tunnel"

        [[survey]]
        uri = "/mnt/facades"
        """
    )

    assert find_surveys(tmp_path) == (
        RosterEntry(f"{tmp_path}/bridges/07", "bridge-07", 256, "North district"),
        RosterEntry("s3://photos/tunnel", "tunnel"),
        RosterEntry("/mnt/facades", "facades"),
    )


@pytest.mark.parametrize(
    ("roster", "complaint"),
    [
        ("[[survey]\n", "is not TOML"),
        ("uri = 'a'", "something else than .*: uri"),
        ("[[survey]]\nname = 'a'", "Survey 1 .* has no uri"),
        ("[[survey]]\nuri = 'a'\ncolour = 'red'", "Survey 1 .* has colour, which is unknown"),
        ("[[survey]]\nuri = 'a'\ntile = '256'", "has tile, which is unknown or of the wrong type"),
        ("[[survey]]\nuri = 'x/a'\n[[survey]]\nuri = 'y/a'", "same name: a"),
        ("survey = 3", "something else"),
    ],
)
def test_a_roster_that_makes_no_sense_is_refused(tmp_path: Path, roster: str, complaint: str) -> None:
    (tmp_path / "surveys.toml").write_text(roster)

    with pytest.raises(UsageError, match=complaint):
        find_surveys(tmp_path)


def test_a_root_without_surveys_says_so(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="no survey"):
        find_surveys(tmp_path)
    (tmp_path / "surveys.toml").write_text("")
    with pytest.raises(SurveyError, match="no survey"):
        find_surveys(tmp_path)
    with pytest.raises(SurveyError, match="cannot be looked into"):
        find_surveys(tmp_path / "nowhere")
