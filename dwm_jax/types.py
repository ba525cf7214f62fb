"""The data structures that all layers share, and the legend of array shapes.

Shape legend. Numeric code names an array's axes in a suffix (`x_TD`), docstrings in parentheses:

    B  batch                      S  seeds, one policy each                   U  updates of one dispatch
    T  sequence_length, rows of a segment: row h is (s_{t+h}, r_{t+h})
    H  horizon, steps of an imagined trajectory (H < T)
    O  observation size           A  action size          D  entries of one row: O + 1, or O + 2 with the termination
    K  diffusion steps            N  sampling steps       M  draws of one pair, or members of an ensemble
    R  rows of a whole data set   P  transitions (data pairs)                 n  any number of segments or states
    E  evaluation episodes; inside a network, an embedding's size
    L  steps of a whole episode or trajectory; inside a network, its length, with C channels

Words. *terminated*: the task ended, the future is worth nothing. *truncated*: the clock or the recording
ended, and what would have followed is unknown. *discount*: gamma, or 0 on a step that terminated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

# Jax counts and indexes with 32 bits, one of them the sign.
LARGEST_INDEX = 2**31 - 1

Array = jax.Array
Key = jax.Array
PyTree = Any
Metrics = dict[str, Array]

# Averages a pytree over the devices that share a batch; returns it unchanged where there is only one.
Average = Callable[[PyTree], PyTree]
# (step, observation (O,), key) -> action (A,): who acts inside an imagined trajectory. `step` counts from s_t.
ChooseAction = Callable[[Array, Array, Key], Array]
# observation (O,) -> scalar value: what a learner believes a state is worth.
Bootstrap = Callable[[Array], Array]


class Episode(NamedTuple):
    """One recorded episode: L actions, L + 1 observations. Host arrays."""

    observations: np.ndarray  # (L + 1, O)
    actions: np.ndarray  # (L, A)
    rewards: np.ndarray  # (L,)
    terminated: bool  # the last step ended the task; otherwise the episode was truncated


class Segment(NamedTuple):
    """T consecutive rows starting at a recorded step t; what world models train on. Raw units."""

    observations: Array  # (T, O)  s_t .. s_{t+T-1}
    rewards: Array  # (T,)   r_t .. r_{t+T-1}
    actions: Array  # (T, A)  a_t .. a_{t+T-1}; zero where the mask is 0
    return_to_go: Array  # ()     scaled label g_t
    mask: Array  # (T,)   1 where the row is known, 0 past a truncation
    terminated: Array  # (T,)   bool: the task has ended by the end of the step; true from the step that ended it on


class Transition(NamedTuple):
    """One step, recorded or generated. Raw units."""

    observation: Array  # (O,)
    action: Array  # (A,)
    reward: Array  # ()
    next_observation: Array  # (O,)
    terminated: Array  # () bool


class Start(NamedTuple):
    """Where an imagined trajectory starts, and the return-to-go that it is conditioned on. Raw units."""

    observation: Array  # (O,)  s_t
    action: Array  # (A,)  a_t
    return_to_go: Array  # ()    g, scaled like the labels


class Condition(NamedTuple):
    """What a sequence model is conditioned on beside the first state; a field is None where it is not part of it."""

    action: Array | None = None  # (A,)  a_t
    return_to_go: Array | None = None  # ()  g, scaled like the labels


class Trajectory(NamedTuple):
    """What follows a data pair (s_t, a_t) for H steps, recorded or imagined."""

    next_observations: Array  # (H, O)  s_{t+1} .. s_{t+H}
    rewards: Array  # (H,)   r_t .. r_{t+H-1}
    # (H,)   gamma; 0 where the step terminated; 1 past the end of a recording, where state and return stand still
    discounts: Array


class NextPair(NamedTuple):
    """The pair one step after a data pair: recorded, or imagined where the data pair is imagined."""

    observation: Array  # (O,)  s_{t+1}
    action: Array  # (A,)  a_{t+1}
    # () bool: False where nobody acted at s_{t+1}, since the episode, its recording or the imagination ended there;
    # action is then 0
    is_known: Array


class Batch(NamedTuple):
    """Data pairs and what follows each, in the learner's units."""

    observation: Array  # (B, O)
    action: Array  # (B, A)
    trajectory: Trajectory  # leading axis B
    next_pair: NextPair  # leading axis B; that of a recorded pair is recorded, also where its trajectory is imagined


class Expand(Protocol):
    """Value expansion: a trajectory and a bootstrap make one critic target (see `value_expansion`)."""

    def __call__(self, trajectory: Trajectory, bootstrap: Bootstrap) -> Array: ...
