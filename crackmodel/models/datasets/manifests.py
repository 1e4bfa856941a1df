"""Data sets as a CSV or Parquet table of images and labels.

image,label,group
photos/p1_0001.jpg,crack,pier 1
photos/p1_0002.jpg,clear,pier 1
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from crackmodel.errors import DatasetError
from crackmodel.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("image", "label", "group")
REQUIRED: Final = ("image", "label")

_FORMAT: Final = (
    "Give a CSV or Parquet file with the columns image (path relative to the file), label and, if images "
    "belong together, group."
)


def read_manifest(path: Path) -> tuple[list[str], list[str], list[str] | None]:
    """Read a manifest.

    Args:
        path: A `.csv` or `.parquet` file with the columns `image` and `label`, perhaps `group`; others
            are ignored.

    Returns:
        Images (posix paths relative to the manifest's folder), labels, and groups where there is such a
        column. An image with an empty group is a group of its own.

    Raises:
        DatasetError: The file cannot be read, a column is missing, a row has no image or label, a path is
            absolute, or an image is listed twice.
    """
    table = _read_table(path)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise DatasetError(
            f"The manifest {path} has no column {' and no column '.join(missing)}; "
            f"it has {', '.join(table.column_names)}.",
            _FORMAT,
        )
    columns = {name: _texts(path, table, name) for name in COLUMNS if name in table.column_names}
    images, labels = columns["image"], columns["label"]
    places: dict[str, int] = {}
    for row, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        if not image or not label:
            raise DatasetError(f"Row {row} of {path} has no {'label' if image else 'image'}.", _FORMAT)
        if PurePosixPath(image).is_absolute():
            raise DatasetError(
                f"Row {row} of {path} names an absolute path, {image}.",
                "Write paths relative to the manifest, so that the data set can move.",
            )
        earlier = places.setdefault(image, row)
        if earlier != row:
            raise DatasetError(
                f"{path} lists {image} twice, in rows {earlier} and {row}.", "Remove one of the rows."
            )
    groups = columns.get("group")
    if groups is not None:
        groups = [group or image for group, image in zip(groups, images, strict=True)]
    return images, labels, groups


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".csv":
            # Labels such as 007 and paths such as 1.5 are text, whatever they look like.
            as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
            return pa.csv.read_csv(path, convert_options=as_text)
        if path.suffix.lower() in (".parquet", ".pq"):
            return pa.parquet.read_table(path)
    except (pa.ArrowException, OSError) as fault:
        raise DatasetError(f"The manifest {path} cannot be read: {one_line(fault, 200)}.", _FORMAT) from fault
    raise DatasetError(f"{path} is neither a folder nor a CSV or Parquet manifest.", _FORMAT)


def _texts(path: Path, table: pa.Table, name: str) -> list[str]:
    import pyarrow as pa

    try:
        values = table[name].cast(pa.string()).to_pylist()
    except pa.ArrowException as fault:
        raise DatasetError(
            f"The column {name} of {path} is {table[name].type}, which is no text.", _FORMAT
        ) from fault
    return [(value or "").strip() for value in values]
