"""Text from outside is made safe to show."""

import pytest

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable

SHOWN = {
    "a\x1b[31mred": r"a\x1b[31mred",
    "\x9b31m": r"\x9b31m",  # the same escape as one C1 character
    "\x00\x07\x08\x7f": r"\x00\x07\x08\x7f",
    "two\nlines\r\tand": r"two\nlines\r\tand",
    "line\u2028and\u2029paragraph": r"line\u2028and\u2029paragraph",
    "\u202eevil\u2066": r"\u202eevil\u2066",
    "\u200e\u200f\u061c": r"\u200e\u200f\u061c",
    "\ufeff\u200bzero": r"\ufeff\u200bzero",
    "caf\udce9": r"caf\xe9",  # a byte of Latin-1 in a file's name
    "\ud800": r"\ud800",
    "\ufffe\uffff": r"\ufffe\uffff",  # in no XML
}
KEPT = [
    "", "plain", "été – 日本\u3000語", "a\u00a0b", "می\u200cخواهم", "👨\u200d👩\u200d👧", r"\x1b[31m", "a\\b", "<b>|$&",
]  # fmt: skip


@pytest.mark.parametrize("text", SHOWN)
def test_control_characters_are_escaped(text: str):
    assert printable(text) == SHOWN[text] == printable(SHOWN[text])
    assert str(InputError(f"{text}; remove it")) == f"{SHOWN[text]}; remove it"


@pytest.mark.parametrize("text", KEPT)
def test_text_of_every_language_is_unchanged(text: str):
    assert printable(text) == text
