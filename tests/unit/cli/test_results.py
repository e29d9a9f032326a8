"""Results as columns."""

from tidemill.cli.results import cell, members
from tidemill.sdk import ResultLine


def test_columns_are_the_members_of_all_results_as_first_seen() -> None:
    lines = [
        ResultLine(index=0, result={"score": 0.9, "model": "svm"}),
        ResultLine(index=1, result=None),
        ResultLine(index=2, result={"model": "knn", "k": 3}),
        ResultLine(index=3, result=[1, 2]),
    ]
    assert members(lines) == ["score", "model", "k", "result"]


def test_a_cell_is_text_as_it_is_and_json_otherwise() -> None:
    line = ResultLine(index=0, result={"name": "a", "n": 1.5, "list": [1], "none": None})
    assert [cell(line, name) for name in ("name", "n", "list", "none", "missing")] == ["a", "1.5", "[1]", "", ""]


def test_a_result_that_is_no_object_fills_the_column_result_only() -> None:
    line = ResultLine(index=0, result=7)
    assert cell(line, "result") == "7"
    assert cell(line, "score") == ""
