"""Names out of a release or a file system as text that a table can hold."""


def as_text(name: str) -> str:
    """The name with bytes that are no UTF-8 as \\xNN, and its first 1,000 characters where it has more."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text if len(text) <= 1000 else text[:999] + "…"
