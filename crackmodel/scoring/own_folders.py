"""Folders that hold no photographs, though they may lie among them."""

from __future__ import annotations

from crackmodel.models.registry.versions import CARD
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location


def own_folders(settings: ScoreSettings) -> tuple[Location, ...]:
    """Name the report and the models, which no run takes for photographs.

    The models count only where a model is: `models`, the default, may as well be a folder of photographs.
    """
    report, models = Location.parse(settings.report), Location.parse(settings.models)
    if models.local is not None and not any(models.local.glob(f"*/v*/{CARD}")):
        return (report,)
    return (report, models)
