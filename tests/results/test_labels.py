"""The labels of world models: as older runs have them in their files, and read as they are made."""

import pytest

from dwm_jax.results.labels import label_with_policy, label_with_recorded_actions, mark_distilled, model_of_label

LABELS = ("one_step", label_with_recorded_actions("one_step"), label_with_policy("one_step", "OneStep-TD3BC"))


def test_labels_are_those_in_the_files_of_earlier_runs() -> None:
    assert LABELS[1:] == ("one_step, told the recorded actions", "one_step, following OneStep-TD3BC's policy")


@pytest.mark.parametrize("label", LABELS)
def test_the_model_of_a_label_is_found_again_distilled_or_not(label: str) -> None:
    assert model_of_label(label) == "one_step"
    assert model_of_label(mark_distilled(label)) == "one_step"


def test_the_remark_stands_behind_the_model() -> None:
    marked = [mark_distilled(label) for label in LABELS[:2]]
    assert marked == ["one_step, distilled", "one_step, distilled, told the recorded actions"]
