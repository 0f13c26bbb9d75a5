"""Whether an error's sentence says what to do."""

import re


def has_remedy(sentence: str) -> bool:
    """Whether the sentence names a remedy, after a semicolon or as a question."""
    return bool(re.search(r"; \w|did you mean|there are|choose|must be", sentence))
