"""Text from outside: comma lists, and file names made safe for tables, screens, pages and figures."""

import unicodedata


def as_text(name: str) -> str:
    """The name with bytes that are not UTF-8 written as \\xNN, cut to 1,000 characters."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text if len(text) <= 1000 else text[:999] + "…"


def comma_list(text: str, separators: str = ",") -> list[str]:
    """The parts between these characters, without empty ones. A separator within parentheses belongs to its part."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


_JOINERS = "\u200c\u200d"  # invisible, but Persian words and some emoji need them
_ESCAPED = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}  # controls, formats (right-to-left marks), surrogates, none, line ends


def printable(text: str) -> str:
    """The text in one line, safe to show on a terminal, a page or in a figure.

    Control characters are escaped as in Python: \\x1b, \\n, \\u202e; a byte that is not UTF-8 becomes \\xff. A second
    call changes nothing more.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable() or char in _JOINERS or unicodedata.category(char) not in _ESCAPED:
        return char
    if 0xDC80 <= ord(char) <= 0xDCFF:  # Python's surrogate for an undecodable byte of a file name
        return f"\\x{ord(char) - 0xDC00:02x}"
    return repr(char)[1:-1]
