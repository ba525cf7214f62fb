"""Sizes of every model that two CPU cores train in a minute or a few; the configs beside this one start from them."""

from ml_collections import ConfigDict


def shrink_models(config: ConfigDict, num_updates: int) -> None:
    """Sets the sizes in place.

    Args:
      num_updates: of the diffusion models and the Transformer; the one-step models get 5,000, Decision Diffuser, whose
        sequences are four times as long, half as many.
    """
    models = config.world_models
    diffusion = {
        "num_updates": num_updates,
        "width": 32,
        "multipliers": (1, 2, 4),
        "learning_rate": 1e-3,
        # The paper's EMA (0.995 every 10 updates) looks back 2,000 updates: after a run this short an eighth of it
        # would still be the random initial weights.
        "ema_rate": 0.95,
    }
    models.dwm.update(diffusion)
    models.autoregressive.update(diffusion)
    models.autoregressive.multipliers = (1, 2)  # two rows are halved once
    models.decision_diffuser.update(diffusion)
    models.decision_diffuser.num_updates = num_updates // 2
    models.decision_diffuser.inverse_hidden = (256, 256, 256)
    models.transition_diffusion.update(diffusion)
    models.transition_diffusion.width = 64  # at T = 1 the group norm needs several channels a group

    models.transformer.update({"num_updates": num_updates, "num_layers": 2, "width": 64, "learning_rate": 1e-3})
    for one_step in (models.one_step, models.ensemble):
        one_step.update({"num_updates": 5_000, "hidden": (128, 128, 128, 128), "learning_rate": 3e-4})
