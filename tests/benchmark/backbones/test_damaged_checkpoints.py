"""Damaged, lying and endless checkpoints are refused with a sentence, within seconds and little memory."""

import collections
import pickle
import random
import struct
import tracemalloc
import zipfile

import pytest
import torch

from tests.benchmark.backbones.torch_files import (
    LEGACY_HEAD,
    entry_head,
    everywhere,
    refused,
    saved,
    tensor_pickle,
    text,
    zipped,
)
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.datasets.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"size": (2, 4)}, "reaches beyond"),
        ({"offset": 1}, "reaches beyond"),
        ({"stride": (4, 1)}, "reaches beyond"),
        ({"size": (10**9, 10**9), "stride": (0, 0)}, "reaches beyond"),
        ({"size": (7,), "stride": (0,)}, "reaches beyond"),
        ({"size": (0, 2**39, 2**39)}, "reaches beyond|no sense"),
        ({"size": (0, 2**39, 2**39), "stride": (1, 1, 1)}, "reaches beyond"),
        ({"size": (0,), "offset": 7}, "reaches beyond"),
        ({"view": ("8", 0, 5)}, "reaches beyond"),
        ({"stride": (-3, 1)}, "a tensor that makes no sense"),
        ({"stride": (3,)}, "a tensor that makes no sense"),
        ({"offset": -1}, "a tensor that makes no sense"),
        ({"size": (1,) * 9}, "a tensor that makes no sense"),
        ({"size": (2**70, 0), "stride": (1, 1)}, "a tensor that makes no sense"),
        ({"size": (2, 3.0), "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"size": [2, 3], "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"size": (True, 3), "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"numel": 2**62, "size": (2**62,), "stride": (1,)}, "a storage that makes no sense"),
        ({"numel": -6}, "a storage that makes no sense"),
        ({"numel": "6"}, "a storage that makes no sense"),
        ({"view": ("8", -1, 6)}, "a storage that makes no sense"),
        ({"view": ("8", 3, 6)}, "one storage in two ways"),
        ({"view": (1, 2)}, "cut off or damaged"),
        ({"numel": 2**39, "size": (2**39,)}, "cut off or damaged"),
        ({"numel": 7}, "cut off or damaged"),
        ({"key": "8"}, "cut off or damaged"),
        ({"key": "../../../etc/passwd"}, "cut off or damaged"),
    ],
    ids=str,
)
def test_lying_numbers(tmp_path, lie, match):
    raw = torch.arange(6.0).numpy().tobytes()
    (tmp_path / "legacy.t7").write_bytes(
        LEGACY_HEAD + tensor_pickle(**lie) + pickle.dumps(["7"], 2) + struct.pack("<q", 6) + raw
    )
    tracemalloc.start()
    refused(tmp_path / "legacy.t7", match)
    if "numel" in lie and type(lie["numel"]) is int:  # the same lie next to the data itself
        where = tmp_path / "legacy2.t7"
        where.write_bytes(
            LEGACY_HEAD + tensor_pickle() + pickle.dumps(["7"], 2) + struct.pack("<q", lie["numel"]) + raw
        )
        refused(where)
    refused(zipped(tmp_path / "zip.pt", tensor_pickle(**lie), {"7": raw}), match)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_honest_numbers_are_read(tmp_path):
    """The control of the lies above."""
    raw = torch.arange(6.0).numpy().tobytes()
    path = tmp_path / "x.t7"
    path.write_bytes(LEGACY_HEAD + tensor_pickle() + pickle.dumps(["7"], 2) + struct.pack("<q", 6) + raw)
    assert read_pickled(path)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_pickled(zipped(path, tensor_pickle(), {"7": raw}))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def bombs() -> dict[str, bytes]:
    deep = b"\x80\x02]q\x00" + b"".join(b"(h\x00h\x00tq\x00" for _ in range(60))  # 2^60 leaves
    module = b"cmodels\nNet\n)\x81}(" + text("_parameters") + b"}" + text("_buffers") + b"}" + text("_modules") + b"}"
    doubled = b"\x80\x02" + module + b"ubq\x000"
    for _ in range(30):  # each holds the one before twice: 2^30 modules
        doubled += module + b"(" + text("a") + b"h\x00" + text("b") + b"h\x00uubq\x000"
    endless = b"\x80\x02cmodels\nNet\n)\x81q\x00}(" + text("_parameters") + b"}" + text("_buffers") + b"}"
    endless += text("_modules") + b"}" + text("a") + b"h\x00sub."
    pairs = pickle.dumps([(k, k) for k in range(10_000)], 2)[:-1] + b"r\x00\x00\x01\x000"
    return {
        "a memo index of four billion": b"\x80\x02Nr\xff\xff\xff\xff.",
        "a text of eight exabytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "a frame of eight exabytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "a bytearray of eight exabytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a digit sum without end": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
        "tuples within tuples": deep + b".",
        "tuples within tuples as a key": deep + b"}h\x00Ns.",
        "tuples within tuples in a set": deep + b"c__builtin__\nset\n]h\x00a\x85R.",
        "numbers of one hash": b"\x80\x02}("
        + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(1, 50_000))
        + b"u.",
        "a module of a billion": doubled + b"h\x00.",
        "a module within itself": endless,
        "a long list as many dictionaries": pairs
        + b"ccollections\nOrderedDict\nr\x01\x00\x01\x000"
        + b"j\x01\x00\x01\x00j\x00\x00\x01\x00\x85R" * 20_000
        + b".",
        "lists of one list": b"\x80\x02]q\x00}"
        + text("loss")
        + b"Nsa0"
        + b"".join(b"](" + b"h%c" % n * 300 + b"eq%c0" % (n + 1) for n in range(4))
        + b"h\x04.",
        "instructions without end": b"\x80\x02" + b"N0" * 500_001 + b".",
        "lists within lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "marks without end": b"\x80\x02" + b"(" * 200_000 + b".",
        "a dictionary without partner": b"\x80\x02}(" + text("a") + b"u.",
        "nothing on the stack": b"\x80\x02.",
        "a mark that is not there": b"\x80\x02t.",
    }


@pytest.mark.parametrize("name", list(bombs()))
def test_bombs(tmp_path, name):
    for path in everywhere(tmp_path, bombs()[name]):
        sentence = refused(path)
    for part, named in (
        ("memo index", "numbers its objects"),
        ("as a key", "dictionary key"),
        ("one hash", "dictionary key"),
        ("of a billion", "more modules than a network has"),
        ("within itself", "modules without end"),
        ("dictionaries", "more than a checkpoint can hold"),
        ("lists of one list", "more dictionaries than"),
        ("instructions", "longer pickle than any"),
    ):
        assert part not in name or named in sentence


def test_bombs_fill_no_memory(tmp_path):
    chosen = [body for name, body in bombs().items() if "memo" in name or "bytes" in name or "dictionaries" in name]
    for body in chosen:
        paths = everywhere(tmp_path, body)
        tracemalloc.start()
        for path in paths:
            refused(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**27


def test_foreign_files(tmp_path):
    path = tmp_path / "x.t7"
    for raw, match in (
        (b"", "is empty"),
        (struct.pack("<ii", 4, 1) + b"\x03\x00\x00\x00V 1", "Lua Torch7"),
        (b"4\n1\n3\nV 1\n13\nnn.Sequential\n", "Lua Torch7"),
        (b"<html>404</html>", "no PyTorch checkpoint"),
        (b"\x89PNG\r\n\x1a\n", "no PyTorch checkpoint"),
        (b"cos\nsystem\n(S'true'\ntR.", "no PyTorch checkpoint"),
        (pickle.dumps({"a": 1}), "not one that torch.save writes"),
        (pickle.dumps(1), "not one that torch.save writes"),
        (LEGACY_HEAD.replace(b"M\xe9\x03.\x80", b"M\xea\x03.\x80", 1), "unknown version"),
        (LEGACY_HEAD.replace(b"\x88", b"\x89"), "big-endian"),
        (LEGACY_HEAD + pickle.dumps({"acc": 1}, 2) + pickle.dumps([], 2), "something that is no tensor"),
        (LEGACY_HEAD + pickle.dumps({}, 2) + pickle.dumps([], 2), "holds no weights"),
        (LEGACY_HEAD + pickle.dumps([1], 2) + pickle.dumps([], 2), "holds no weights"),
        (b"PK\x03\x04 and no more", "cut off or damaged"),
    ):
        path.write_bytes(raw)
        refused(path, match)
    refused(tmp_path / "missing.t7", "cannot be read")
    refused(tmp_path, "cannot be read")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path / "missing")
    raw = torch.arange(6.0).numpy().tobytes()
    refused(zipped(path, tensor_pickle(), {"7": raw}, compression=zipfile.ZIP_DEFLATED), "compressed")
    refused(zipped(path, tensor_pickle(), {"7": raw[:-1]}), "cut off")
    refused(zipped(path, tensor_pickle(), {"7": raw + b"x"}), "cut off")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"<w/>")
    refused(path, "zip archive, but not one that torch.save writes")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/byteorder", b"big")
        archive.writestr("x/data.pkl", tensor_pickle())
    refused(path, "big-endian")


@pytest.mark.filterwarnings("ignore")
def test_zip_entries_over_one_another_do_not_multiply(tmp_path):
    """Many entries that point to the same bytes: refused once more is read than the file is long."""
    files = {"x/data.pkl": b"", **{f"x/data/{n:03}": b"" for n in range(40, 0, -1)}}
    body, blob, places = b"\x80\x02}(", bytes(400_000), []
    for name in list(files)[1:]:  # each file's bytes are all of the file behind its header, other headers with it
        key, numel = name[-3:], len(blob) // 4
        body += text(key) + tensor_pickle(numel=numel, size=(numel,), key=key, alone=True)
        files[name] = blob
        blob = entry_head(b"PK\x03\x04\x14\0", name, blob) + blob
    files["x/data.pkl"] = body + b"u."
    begins = entry_head(b"PK\x03\x04\x14\0", "x/data.pkl", files["x/data.pkl"]) + files["x/data.pkl"]
    for name, raw in files.items():
        at = 0 if name == "x/data.pkl" else len(begins) + len(blob) - len(raw) - 40
        fields = entry_head(b"PK\x01\x02\x14\0\x14\0", name, raw)
        places.append(fields[:-10] + struct.pack("<HHHII", 0, 0, 0, 0, at) + fields[-10:])
    middle = b"".join(places)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(places), len(places), len(middle), len(begins + blob), 0)
    path = tmp_path / "x.pt"
    path.write_bytes(begins + blob + middle + end)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 41
    tracemalloc.start()
    refused(path, "cut off or damaged")
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_half_files(tmp_path, network, legacy):
    whole = saved(tmp_path / "x.t7", {"net": network, "acc": 1.0}, legacy).read_bytes()
    half = tmp_path / "half.t7"
    cuts = sorted({*range(0, 400, 7), *range(0, len(whole), 97), *range(len(whole) - 60, len(whole))})
    for cut in cuts:
        half.write_bytes(whole[:cut])
        refused(half)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_flipped_bytes(tmp_path, network, legacy):
    """400 damaged files of each format: read as something or refused with a sentence, within seconds."""
    whole = saved(tmp_path / "x.t7", {"net": network, "acc": 1.0}, legacy).read_bytes()
    chance, path, ends = random.Random(26), tmp_path / "flipped.t7", collections.Counter()
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 30))):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        path.write_bytes(raw)
        try:
            tensors = read_pickled(path)
        except InputError as error:
            ends["refused"] += str(error).startswith(str(path)) and str(error).isprintable()
        else:
            assert sum(tensor.numel() for tensor in tensors.values()) < len(whole)
            ends["read"] += 1
    assert ends.total() == 400, "a sentence that does not name the file, or is not printable"
    assert ends["refused"] > 50
