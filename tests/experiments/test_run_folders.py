"""Where runs lie below a folder, and what is not looked through for them."""

from pathlib import Path

from experiments.run_folders import run_folders


def test_runs_are_found_without_looking_through_what_they_keep(tmp_path: Path) -> None:
    for place in ("b/run", "b/run/checkpoints/7", "b/run/inner", "a", ".compiled/x", "checkpoints/c", "empty"):
        (tmp_path / place).mkdir(parents=True)
        if place != "empty":
            (tmp_path / place / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    # A folder called "checkpoints" is a run's own where it lies in a run, and hides nothing elsewhere.
    found = [str(path.relative_to(tmp_path)) for path in run_folders(tmp_path)]
    assert found == ["a", "b/run", "b/run/inner", "checkpoints/c"]
