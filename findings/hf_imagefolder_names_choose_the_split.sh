#!/usr/bin/env bash
# Hugging Face datasets 5.2.0 (pyarrow 26.0.1, pandas 3.1.1, Pillow 13.0.0): `imagefolder` on a folder of class folders.
#
# One expects train/, valid/, test/ to be splits (they are) and all else to be classes. Seen, each without a word:
# - Train/ Valid/ Test/ are no splits: all 12 images are in train, those that should be held back with them.
# - classes car, bus, train: the 2 images of `train` are all there is, without labels; car and bus are gone.
# - classes train_station, bus_stop: the same, 2 of 4 images: a word within a folder's name is enough.
# - a word within a FILE's name is enough, too: of 6 photographs 2 are called crash_test_1.png, and only these are left.
# - train/ and test/ with the classes cat and val: the 4 images of class `val` make a validation split, of which 2 are
#   training images and 2 are test images.
# So: who gives images to a loader that reads names looks at its counts first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 pillow==13.0.0
cat >"$folder/check.py" <<'PY'
import sys
from collections import Counter
from pathlib import Path

from datasets import disable_progress_bars, load_dataset
from PIL import Image

disable_progress_bars()
root = Path(sys.argv[1])


def loaded(name, files):
    """{split: images a class, or their number where there are no labels}"""
    for i, file in enumerate(files):
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(path)
    found = {}
    for split, rows in load_dataset("imagefolder", data_dir=str(root / name)).items():
        label = rows.features.get("label")
        found[split] = dict(Counter(label.names[i] for i in rows["label"])) if label else len(rows)
    print(name, len(files), "images:", found)
    return found


def images(*folders):
    return [f"{folder}/{i}.png" for folder in folders for i in (1, 2)]


def both(*splits):
    return images(*(f"{split}/{title}" for split in splits for title in ("cat", "dog")))


two = {"cat": 2, "dog": 2}
assert loaded("lower", both("train", "valid", "test")) == {"train": two, "validation": two, "test": two}
assert loaded("upper", both("Train", "Valid", "Test")) == {"train": {"cat": 6, "dog": 6}}
assert loaded("vehicles", images("car", "bus", "train")) == {"train": 2}
assert loaded("stations", images("train_station", "bus_stop")) == {"train": 2}
files = [f"{title}/{name}.png" for title in ("cat", "dog") for name in ("crash_test_1", "2", "3")]
assert loaded("files", files) == {"test": {"cat": 1, "dog": 1}}
mixed = loaded("val", images("train/cat", "train/val", "test/cat", "test/val"))
assert mixed == {"train": {"cat": 2, "val": 2}, "validation": {"val": 4}, "test": {"cat": 2, "val": 2}}
PY
cd "$folder"  # where no folder is called datasets
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" "$folder/check.py" "$folder/data0" 2>/dev/null
echo "as stated"
