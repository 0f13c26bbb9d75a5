"""The one exception that means: the input is wrong, and here is how to mend it."""


class BadInput(Exception):
    """Wrong input from outside: one clear sentence naming the file, the domain and the mend.

    The command line prints the sentence and exits with 2; nothing else in the suite turns an
    exception into an exit code, so every other exception is a defect and keeps its traceback.
    """


class Unwritable(BadInput):
    """A place that takes nothing now (full, over quota, read-only, failing): whatever writes there meets it again."""
