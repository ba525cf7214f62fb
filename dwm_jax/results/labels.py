"""Under which label the measurements of a world model are filed: the model, and who acts in it.

    dwm                                           asks nobody how to act
    one_step, told the recorded actions
    one_step, following OneStep-TD3BC's policy

They are keys of diagnostics.json, and names in tables and pictures; "one_step, distilled, ..." in tables alone. Here
they are made, and here they are taken apart.
"""

SEPARATOR = ", "


def label_with_recorded_actions(model: str) -> str:
    """The label of a model in which the recorded actions are repeated."""
    return f"{model}{SEPARATOR}told the recorded actions"


def label_with_policy(model: str, method: str) -> str:
    """The label of a model in which the policy of a method acts."""
    return f"{model}{SEPARATOR}following {method}'s policy"


def mark_distilled(label: str) -> str:
    """The label with the remark that the model is distilled."""
    model, separator, actor = label.partition(SEPARATOR)
    return f"{model}{SEPARATOR}distilled{separator}{actor}"


def model_of_label(label: str) -> str:
    """The world model of any of these labels."""
    return label.partition(SEPARATOR)[0]
