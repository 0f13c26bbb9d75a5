"""Checks, before anything is trained or measured, that a folder can be written."""

from pathlib import Path

from visual_decathlon.benchmark.records.store import remove_half_written
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import temporary_name


def prepare_folders(results: Path, cache: Path) -> None:
    """Check that both folders can be written, and remove the temporary files that a killed command left in them."""
    check_writable(results)
    check_writable(cache)
    remove_half_written(results, cache)


def check_writable(folder: Path) -> None:
    """Create the folder if it is missing. Raises InputError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = temporary_name(folder / "probe")
        try:
            trial.write_bytes(b"probe")
        finally:
            trial.unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{folder} cannot be written (a file is where a folder is needed); name another folder"
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); make it writable or name another folder"
        ) from None
