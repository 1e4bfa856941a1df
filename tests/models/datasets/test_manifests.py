from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crackmodel.errors import DatasetError
from crackmodel.models.datasets.labelled import find_images
from crackmodel.models.evaluation.evaluate import evaluate_model
from crackmodel.models.registry.registry import Registry


def _csv(folder: Path, *lines: str) -> Path:
    path = folder / "walls.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_manifest_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    images = find_images(
        _csv(
            tmp_path, "group,image,label,notes", 'p1,"b, 2.jpg",crack,x', "p1,a.jpg,intact,", ",c.jpg,crack,"
        )
    )

    assert images.root == tmp_path
    assert images.files == ("a.jpg", "b, 2.jpg", "c.jpg")
    assert images.labels.tolist() == [0, 1, 1]
    assert (images.positive, images.negative) == ("crack", "intact")
    assert images.groups == ("p1", "p1", "c.jpg")


@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
@pytest.mark.parametrize("labels", [[1, 0], [True, False], ["yes", "no"]])
def test_parquet_takes_numbers_and_truth_for_labels(
    tmp_path: Path, suffix: str, labels: list[object]
) -> None:
    path = tmp_path / f"walls{suffix}"
    pq.write_table(pa.table({"image": ["b.jpg", "a.jpg"], "label": labels}), path)

    images = find_images(path)

    assert images.labels.tolist() == [0, 1]
    assert images.groups is None


def test_label_of_cracks_can_be_told(tmp_path: Path) -> None:
    path = _csv(tmp_path, "image,label", "a.jpg,riss", "b.jpg,glatt")

    with pytest.raises(DatasetError, match="not clear which label"):
        find_images(path)
    assert find_images(path, positive="riss").labels.tolist() == [1, 0]
    with pytest.raises(DatasetError, match="no label 'crack'"):
        find_images(path, positive="crack")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["image,class", "a.jpg,crack"], "no column label; it has image, class"),
        (["file,class", "a.jpg,crack"], "no column image and no column label"),
        (["image,label", "a.jpg,crack", ",clear"], "Row 2 .* has no image"),
        (["image,label", "a.jpg,"], "Row 1 .* has no label"),
        (["image,label", "a.jpg,crack", "/data/b.jpg,clear"], r"Row 2 .* absolute path, /data/b\.jpg"),
        (["image,label", "a.jpg,crack", "a.jpg,clear"], r"lists a\.jpg twice, in rows 1 and 2"),
        (["image,label", "a.jpg,crack"], r"1 labels \(crack\), not two"),
        (["image,label"], r"0 labels \(none\), not two"),
        (["image,label", "a,crack", "b,clear", "c,maybe"], r"3 labels \(clear, crack, maybe\)"),
        (["image,label", "a,b,c"], "cannot be read: .*columns"),
    ],
)
def test_manifest_that_is_wrong_is_refused_by_row_and_column(
    tmp_path: Path, lines: list[str], complaint: str
) -> None:
    with pytest.raises(DatasetError, match=complaint):
        find_images(_csv(tmp_path, *lines))


def test_other_files_are_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "walls.xlsx").write_bytes(b"PK")
    (tmp_path / "walls.parquet").write_bytes(b"PAR")
    pq.write_table(pa.table({"image": [["a"]], "label": ["crack"]}), tmp_path / "lists.parquet")

    with pytest.raises(DatasetError, match="neither a folder nor a CSV or Parquet"):
        find_images(tmp_path / "walls.xlsx")
    with pytest.raises(DatasetError, match="cannot be read"):
        find_images(tmp_path / "walls.parquet")
    with pytest.raises(DatasetError, match=r"column image of .* no text"):
        find_images(tmp_path / "lists.parquet")


def test_model_is_evaluated_on_a_manifest_and_missing_files_are_counted(
    drawn_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "slabs").symlink_to(drawn_dataset)
    rows = [
        f"slabs/{folder}/{n:02}.png,{label},slab {n // 5}"
        for folder, label in (("cracked", 1), ("plain", 0)) for n in range(10)
    ]  # fmt: skip
    manifest = _csv(tmp_path, "image,label,group", *rows, "slabs/lost.png,0,slab 0")

    found = evaluate_model(Registry("nowhere").resolve("builtin"), [manifest], out=tmp_path / "out")

    assert found.sets["walls"].metrics.images == 20
    assert [bad.file for bad in found.sets["walls"].scored.bad] == ["slabs/lost.png"]
    page = found.page.read_text()
    assert "walls by group" in page
    assert "slab 1" in page
