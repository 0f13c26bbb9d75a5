"""Tables of records that no run made."""

import pandas as pd

from tests.benchmark.drawn_records import record
from visual_decathlon.benchmark.tables.table1 import Row, Table, tables
from visual_decathlon.datasets.catalogue import DOMAINS


def tables_of(records: list[dict], shipped: list[dict] = ()) -> list[Table]:
    """The tables of the records; `shipped` records only give the baseline."""
    return tables(pd.DataFrame(records), pd.DataFrame(shipped) if shipped else None)


def table_of(records: list[dict], shipped: list[dict] = ()) -> Table:
    """The only table of the records."""
    (table,) = tables_of(records, shipped)
    return table


def rows_of(table: Table) -> dict[str, Row]:
    """The rows by method."""
    return {row.method: row for row in table.rows}


def real_test(method: str, top1: dict[str, float]) -> list[dict]:
    """Records of the whole real test split with this top-1 by domain."""
    more = {"split": "test", "standin": False, "data": "decathlon-1.0", "data_id": "x"}
    return [record(method, n, v, eval_images=DOMAINS[n].counts[2], **more) for n, v in top1.items()]
