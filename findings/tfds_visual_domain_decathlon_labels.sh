#!/usr/bin/env bash
# tensorflow-datasets 4.9.10 (tensorflow 2.21.0, Pillow 13.0.0, Python 3.11): the builder of the Visual Domain Decathlon.
#
# One expects the label of an image to follow from its official category id (k * 10^7 + c is class c), the
# same in every split, and an image that the annotations name and the archive lacks to be an error.
# Seen: the label is the position of the category in that split's own list of categories. A val file that lists the
# same categories in another order gives the same class another label than train, without a word. An image that the
# archive lacks is left out without a word (1 example for 2 annotated images). The labels have no names ("0", "1").
# So: map classes by category id, and count images against the annotations.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorflow-datasets==4.9.10 tensorflow==2.21.0 pillow==13.0.0
cat >"$folder/check.py" <<'PY'
import io
import json
import sys
import tarfile
from pathlib import Path

from PIL import Image
from tensorflow_datasets.image_classification.visual_domain_decathlon import VisualDomainDecathlon

folder = Path(sys.argv[1])
BANDED, BLOTCHY = {"id": 40000001, "name": "banded"}, {"id": 40000002, "name": "blotchy"}


def annotate(split, categories, rows):
    images = [{"id": i, "file_name": f"data/dtd/{split}/{file}"} for i, file, _ in rows]
    labels = [{"id": i, "image_id": i, "category_id": c["id"]} for i, _, c in rows]
    text = json.dumps({"images": images, "annotations": labels, "categories": categories})
    (folder / f"dtd_{split}.json").write_text(text)


annotate("train", [BANDED, BLOTCHY], [(1, "0001/000001.jpg", BANDED), (2, "0002/000002.jpg", BLOTCHY)])
annotate("val", [BLOTCHY, BANDED], [(3, "0001/000003.jpg", BANDED), (4, "0002/000004.jpg", BLOTCHY)])
picture = io.BytesIO()
Image.new("RGB", (72, 72)).save(picture, "JPEG")
with tarfile.open(folder / "dtd.tar", "w") as archive:  # 000004.jpg is not in it
    for name in ("train/0001/000001.jpg", "train/0002/000002.jpg", "val/0001/000003.jpg"):
        member = tarfile.TarInfo(f"dtd/{name}")
        member.size = len(picture.getvalue())
        archive.addfile(member, io.BytesIO(picture.getvalue()))
builder = VisualDomainDecathlon(data_dir=str(folder / "data"), config="dtd")
found = {
    split: {name: example["label"] for name, example in builder._generate_examples(folder / "dtd.tar", folder, split)}
    for split in ("train", "val")
}
print(found, builder.info.features["label"].names[:2])
assert found["train"] == {"dtd/train/0001/000001.jpg": 0, "dtd/train/0002/000002.jpg": 1}
assert found["val"] == {"dtd/val/0001/000003.jpg": 1}, "banded is 0 in train"
assert builder.info.features["label"].names[:2] == ["0", "1"]
PY
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES="" "$folder/venv/bin/python" "$folder/check.py" "$folder" 2>/dev/null
echo "as stated"
