"""Names and other text from outside: as a table can hold it, as a screen, page or figure can show it."""

import unicodedata


def as_text(name: str) -> str:
    """The name with bytes that are no UTF-8 as \\xNN, and its first 1,000 characters where it has more."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text if len(text) <= 1000 else text[:999] + "…"


_JOINERS = "\u200c\u200d"  # invisible, but letters of Persian and pictures of people are made with them
_ODD = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}  # controls, formats (right-to-left marks), surrogates, none, line ends


def printable(text: str) -> str:
    """The text as a terminal, a page or a figure may show it, in one line.

    Characters that steer rather than show are written as in Python: \\x1b, \\n, \\u202e; a byte that is no UTF-8 as
    \\xff. Twice is as once.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable() or char in _JOINERS or unicodedata.category(char) not in _ODD:
        return char
    if 0xDC80 <= ord(char) <= 0xDCFF:  # what Python makes of a byte in a file's name
        return f"\\x{ord(char) - 0xDC00:02x}"
    return repr(char)[1:-1]
