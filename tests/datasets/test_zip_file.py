"""ZIP archives with an index that is larger than in any normal archive."""

import io
import zipfile

import pytest

from visual_decathlon.datasets.zip_file import open_zip


def _archive(names: list[str], comment: bytes = b"") -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content of " + name[:9].encode())
        archive.comment = comment
    return file


def test_a_normal_archive_is_read():
    with open_zip(_archive(["a", "b" * 200], comment=b"x" * 60_000), most=100_000) as archive:
        assert archive.namelist() == ["a", "b" * 200]
        assert archive.read("a") == b"content of a" and archive.read("b" * 200) == b"content of bbbbbbbbb"


@pytest.mark.parametrize("most", [100_000, 10])
def test_a_large_index_is_not_read(most: int):
    with pytest.raises(zipfile.BadZipFile, match=f"its index has [\\d,]+ bytes, more than {most:,}"):
        open_zip(_archive([f"{i}{'x' * 30_000}" for i in range(4)]), most)


def test_the_limit_does_not_apply_to_members():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"x" * 10_000)
    with open_zip(file, most=1000) as archive:
        assert archive.read("a") == b"x" * 10_000
