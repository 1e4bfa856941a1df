"""The result of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crackmodel.errors import TooManyRejected
from crackmodel.reports.reading.run_statistics import TopImage, UnfamiliarImage


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run, checked against the report.

    `listed == scored + rejected + skipped + postponed`.

    Attributes:
        run_id: Name of the run; the `run_id` column of its rows.
        survey: Name of the survey; its partition of the report.
        uri: Where the survey is.
        report: Where the report is.
        model: Model reference, `name@version`.
        listed: Files found in the survey.
        scored: Images that got a verdict: `cracks` and `clear`.
        cracks: Images with at least one tile over the threshold.
        clear: Images without.
        rejected: Files that could not be scored, `not_images` among them; by reason in `reject_codes`.
        reject_codes: Count of rejected files by `reject_code`.
        skipped: Files that the report already holds for this model and tiling.
        postponed: Files left for another run by `limit` or `since`.
        hidden: Files ignored because their path has a part that starts with a dot.
        outside: Symbolic links ignored because they lead out of the survey.
        misnamed: Files ignored because their names are not UTF-8.
        tiles: Tiles that the model saw.
        seconds: Wall time of the run, start of Ray included.
        top: The images with the highest probability of a crack, highest first.
        too_many_rejected: More images were rejected than `max_rejected` allows; files that are not images
            by name or content do not count.
        unfamiliar: Scored images that look unlike the model's training images; None for a model without a
            threshold for that. Their verdicts count in `cracks` and `clear` all the same.
        least_familiar: Those that look least like them, highest `ood_score` first.
        moved: Images of the report that are gone from the survey, and whose content has another name there.
        missing: Images of the report that are gone; marked as `vanished` only with `mark_missing`.
        nameless: Folders of an object store ignored, with all that is in them, because their name is empty.
    """

    run_id: str
    survey: str
    uri: str
    report: str
    model: str
    listed: int
    scored: int
    cracks: int
    clear: int
    rejected: int
    reject_codes: dict[str, int]
    skipped: int
    postponed: int
    hidden: int
    outside: int
    misnamed: int
    tiles: int
    seconds: float
    top: tuple[TopImage, ...]
    too_many_rejected: bool
    unfamiliar: int | None = None
    least_familiar: tuple[UnfamiliarImage, ...] = ()
    moved: int = 0
    missing: int = 0
    nameless: int = 0

    @property
    def not_images(self) -> int:
        """Rejected files that are not images, by name or content."""
        return self.reject_codes.get("not_an_image", 0)

    @property
    def rejected_text(self) -> str:
        """The rejected files in words, those that are not images apart."""
        return f"{self.rejected:,} rejected{self._not_images_text}"

    @property
    def _not_images_text(self) -> str:
        if not self.not_images:
            return ""
        return f" ({self.not_images:,} not {'an image' if self.not_images == 1 else 'images'})"

    def check_rejected(self) -> None:
        """Raise an error if too many images were rejected.

        Raises:
            TooManyRejected: `too_many_rejected` is true.
        """
        if self.too_many_rejected:
            raise TooManyRejected(
                f"{self.rejected:,} of {self.listed:,} files of {self.survey} were rejected"
                f"{self._not_images_text}, more than --max-rejected allows.",
                "Everything else is scored; see why: crackmodel query 'from rejected'.",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)
