"""Whether an error's sentence says what to do."""

import re


def has_remedy(sentence: str) -> bool:
    """Whether it says what to do, behind a semicolon or as a question."""
    return bool(re.search(r"; \w|did you mean|there are|choose|must be", sentence))
