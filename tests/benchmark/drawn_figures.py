"""Groups of records that no run made, and the texts of figures drawn from them."""

from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.benchmark.drawn_records import ten
from tests.benchmark.drawn_tables import tables_of
from visual_decathlon.benchmark.report.figures.groups import Group, grouped

HISTORY = [{"epoch": e, "loss": 2.0 / e, "train_top1": 20.0 * e, "seconds": 1.0} for e in (1, 2, 3)]
SOME = [r for m, t in (("finetune", 80.0), ("lora", 82.0), ("feature", 60.0)) for s in (0, 1) for r in ten(m, t + s, s)]
REAL = {"split": "test", "standin": False, "data": "decathlon-1.0"}


def group_of(records: list[dict]) -> Group:
    """The only group of the records, each with a history of three epochs."""
    (group,) = grouped(tables_of(records), {r["hash"]: HISTORY for r in records})
    return group


def texts_of(figure: Figure) -> list[Text]:
    """The visible texts of a figure."""
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
