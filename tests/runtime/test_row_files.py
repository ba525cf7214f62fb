"""The files a run appends to, cut where a run resumes."""

from pathlib import Path

import numpy as np
import pytest

from dwm_jax.runtime import files
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.row_files import OF_A_PHASE, TIMES, JsonLines, Result, Results


@pytest.fixture
def lines(tmp_path):
    file = JsonLines(tmp_path / "metrics.jsonl")
    file.append([{"phase": "a", "step": 1, "x": 0.1}, {"phase": "b", "step": 2}])
    file.append([{"phase": "a", "step": 2, "y": 3}])
    return file


def test_rows_come_back_in_order_with_their_own_columns(lines):
    assert lines.read() == [
        {"phase": "a", "step": 1, "x": 0.1},
        {"phase": "b", "step": 2},
        {"phase": "a", "step": 2, "y": 3},
    ]


def test_a_file_that_is_not_there_holds_no_rows(tmp_path):
    for file in (JsonLines(tmp_path / "none"), Results(tmp_path / "none")):
        file.cut("a", 0)
        assert file.read() == []
    assert list(tmp_path.iterdir()) == []


def test_cut_drops_later_rows_of_the_phase_and_no_others(lines):
    lines.cut("a", 1)
    assert [(row["phase"], row["step"]) for row in lines.read()] == [("a", 1), ("b", 2)]


def test_a_torn_last_line_is_no_row_and_is_gone_after_a_cut(lines):
    with open(lines.path, "a") as file:
        file.write('{"phase": "a", "step": 3, "x": 0.')
    assert len(lines.read()) == 3
    lines.cut("a", 2)
    lines.append([{"phase": "a", "step": 3}])
    assert lines.read()[-1] == {"phase": "a", "step": 3}
    assert len(lines.read()) == 4


@pytest.mark.parametrize("content", ["no json\n", '{"phase": "a", "step": 1, "seconds": null}\n'])
def test_a_file_that_only_informs_is_left_out_and_then_moved_where_nothing_is(content, tmp_path, capsys):
    file = JsonLines(tmp_path / "timing.jsonl", TIMES)
    for _ in range(2):
        file.path.write_text(content)
        assert file.find() == []
        file.renew()
    said = capsys.readouterr().err
    assert said.count("; it is left out\n") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"timing.jsonl.unreadable", "timing.jsonl.unreadable.2"}
    assert all(path.read_text() == content for path in tmp_path.iterdir())
    file.append([{"phase": "a", "step": 1, "seconds": 0.5}])
    file.renew()
    assert file.find() == [{"phase": "a", "step": 1, "seconds": 0.5}]
    assert capsys.readouterr().err == ""


def result(method="DWM-TD3BC", step=10, score=0.5):
    return Result(method, "maze2d-umaze", 0, step, 1, 100.25, score, 100 * score, 60.5, 58.25)


def test_results_come_back_with_their_types_and_one_header(tmp_path):
    file = Results(tmp_path / "results.csv")
    rows = [result(), result("TD3+BC", 20, 1 / 3)]
    for row in rows:
        file.append([row])
    assert file.read() == rows
    assert file.path.read_text().splitlines()[0] == ",".join(Result._fields)
    assert len(file.path.read_text().splitlines()) == 3


def test_a_task_without_scores_keeps_its_raw_returns(tmp_path):
    file = Results(tmp_path / "results.csv")
    file.append([result(score=np.float64("nan"))])
    (row,) = file.read()
    assert row.return_raw == 100.25
    assert np.isnan(row.score_0_1)


def test_results_cut_drops_later_rows_of_the_method_and_no_others(tmp_path):
    file = Results(tmp_path / "results.csv")
    file.append([result("a", 10), result("b", 20), result("a", 20)])
    file.cut("a", 10)
    file.append([result("a", 30)])
    assert [(row.method, row.step) for row in file.read()] == [("a", 10), ("b", 20), ("a", 30)]


@pytest.mark.parametrize("torn", ["DWM-TD3BC,maze2d-umaze,0,20,1,100.2", "DWM-TD3BC,maze2d"])
def test_a_torn_last_result_is_none_and_is_gone_after_a_cut(tmp_path, torn):
    file = Results(tmp_path / "results.csv")
    file.append([result()])
    with open(file.path, "a") as handle:
        handle.write(torn)
    assert file.read() == [result()]
    file.cut("DWM-TD3BC", 10)
    file.append([result(step=20)])
    assert file.read() == [result(), result(step=20)]


def test_a_header_torn_by_a_kill_is_written_again(tmp_path):
    file = Results(tmp_path / "results.csv")
    file.path.write_text("method,ta")
    file.cut("DWM-TD3BC", 0)
    file.append([result()])
    assert file.read() == [result()]


def test_rows_are_appended_after_the_last_whole_one(lines):
    before = lines.read()
    with open(lines.path, "a") as file:
        file.write('{"phase": "torn", "st')
    lines.append([{"phase": "a", "step": 9}])
    assert lines.read() == [*before, {"phase": "a", "step": 9}]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
@pytest.mark.parametrize("content", ["", "a\n", "a\nbc\n\nd\n", "a\nbc\ntorn", "torn", "\n"])
def test_lines_come_backwards_by_any_block(content, block, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", block)
    (tmp_path / "rows").write_text(content)
    forwards = [line.rstrip("\n") for line in files.read_lines(tmp_path / "rows")]
    assert list(files.lines_backwards(tmp_path / "rows")) == forwards[::-1]


def test_the_newest_row_of_a_phase_is_found_without_what_came_before(lines):
    assert lines.last("a") == {"phase": "a", "step": 2, "y": 3}
    lines.path.write_text("damaged\n" + lines.path.read_text() + '{"phase": "a", "step": 3')
    assert lines.last("b") == {"phase": "b", "step": 2}
    with pytest.raises(UnreadableError, match="line 4 from the end"):
        lines.last("c")
    assert JsonLines(lines.path.with_name("none")).last("a") is None


def test_last_evaluations_are_those_of_each_method(tmp_path):
    file = Results(tmp_path / "results.csv")
    rows = [result("A", 10), result("A", 20), result("A", 20, 0.7), result("B", 10), result("B", 10, 0.9)]
    file.append(rows)
    assert file.last_evaluations() == {"A": rows[1:3], "B": rows[3:]}
    with open(file.path, "a") as handle:
        handle.write("B,maze,0,20,\n")
    with pytest.raises(UnreadableError, match=r"results\.csv cannot be read: a row of the last evaluation is no row"):
        file.last_evaluations()


@pytest.mark.parametrize(
    "row",
    ["{}", '{"phase": "a"}', '{"phase": "a", "step": "x"}', '{"phase": "a", "step": true}', '{"phase": 3, "step": 1}'],
)
def test_a_row_without_what_it_needs_is_named(row: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase": "a", "step": 1}\n' + row + "\n")
    rows = JsonLines(path, OF_A_PHASE)
    with pytest.raises(UnreadableError, match=r"metrics.jsonl cannot be read: line 2 has .* for its (phase|step)"):
        rows.read()
    with pytest.raises(UnreadableError, match="line 1 from the end"):
        rows.last("b")
    assert JsonLines(path).read()[0] == {"phase": "a", "step": 1}


def test_some_evaluations_are_dropped(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.csv")
    rows = [Result(method, "t", 0, step, 0, 1.0, 0.1, 10.0, 1.0, 1.0) for method in "ab" for step in (10, 20, 30)]
    results.append(rows)
    results.drop("a", {10, 30})
    assert results.read() == [row for row in rows if row.method == "b" or row.step == 20]
