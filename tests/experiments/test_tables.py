"""CSV files of what was found."""

from pathlib import Path

from experiments.tables import write_csv


def test_what_is_not_known_is_an_empty_cell(tmp_path: Path) -> None:
    rows = [{"method": "a, b", "score": 1 / 3, "std": None}, {"method": "c", "score": float("nan"), "std": 0}]
    write_csv(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_bytes() == b'method,score,std\r\n"a, b",0.3333333333333333,\r\nc,,0\r\n'


def test_no_rows_leave_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("of an earlier report")
    write_csv(tmp_path / "a.csv", [])
    write_csv(tmp_path / "b.csv", [])
    assert list(tmp_path.iterdir()) == []
