"""`specprune bench --worker`: both ways are asked the same, in turn, and the report says what the process adds."""

from specprune_ros.bench import seam
from specprune_ros.config import Config


def test_both_ways_answer_and_are_reported():
    rows = seam.measure("copying", (6, 8), Config(), rounds=3)
    assert [row["way"] for row in rows] == ["process", "thread"]
    for row in rows:
        assert (row["policy"], row["height"], row["width"], row["rounds"]) == ("copying", 6, 8, 3)
        assert 0.0 < row["p50"] <= row["p95"] <= row["p99"]
    shown = seam.table({"rows": rows})
    assert shown.row_count == 1 and [column.header for column in shown.columns][-1] == "added p50"
