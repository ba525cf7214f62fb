"""An offline data set as flat arrays, and segments of it as index arithmetic.

An episode of L actions takes L + 1 rows: its last row holds the final observation and no action. `last` names
that row for every row, so nothing ever crosses an episode boundary, and `terminated` says how the episode
ended: a termination is absorbing (the state stays, reward 0), a truncation hides what follows.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg.blas import dtbsv

from dwm_jax.data.episode_rows import EpisodeRows, aligned_zeros, check_episode
from dwm_jax.maths.normalizers import AffineNormalizer, fit_standard
from dwm_jax.types import Array, Episode, Segment, Trajectory, Transition

# Of returns-to-go and of everything that is learnt, unless a run's config says otherwise.
DISCOUNT = 0.99
# The first steps of an episode that count as near its start.
START_STEPS = 20


class Dataset(NamedTuple):
    """R rows of all episodes in order; numpy on the host, the same tree of jax arrays on a device.

    `flatten` makes its arrays read-only: a CPU device shares their memory (`parallel.replicate`).
    """

    observations: np.ndarray  # (R, O) float32
    actions: np.ndarray  # (R, A) float32, 0 in last rows
    rewards: np.ndarray  # (R,) float32, 0 in last rows
    returns_to_go: np.ndarray  # (R,) float32, scaled by the task's RTG scale; 0 in last rows
    last: np.ndarray  # (R,) int32 the last row of this row's episode
    terminated: np.ndarray  # (R,) bool this row's episode ended in a termination


def flatten(episodes: Iterable[Episode], gamma: float, return_scale: float | None) -> tuple[Dataset, float]:
    """Lays episodes out as a `Dataset`.

    Args:
      episodes: checked by `check_episode`. `EpisodeRows` are taken as they are: the data set shares their memory, which
        nobody may write to any more.
      gamma: discount of the returns-to-go.
      return_scale: divisor of the returns-to-go; None takes the largest |g_t|, so that labels lie in [-1, 1].

    Returns:
      (data set, the scale used).

    Raises:
      ValueError: when there is no episode, or one fails `check_episode` (the message names it).
    """
    if not isinstance(episodes, EpisodeRows):
        episodes = EpisodeRows.of(list(episodes))
    if not len(episodes):
        raise ValueError("the data set holds no episode")
    shape = episodes.observations.shape[1:]
    returns = np.zeros(len(episodes.observations))
    last = aligned_zeros(returns.shape, np.int32)
    terminated = aligned_zeros(returns.shape, np.bool_)
    row = 0
    for index, episode in enumerate(episodes):
        check_episode(episode, index, shape)
        end = row + len(episode.actions)
        returns[row:end] = _discounted_sums(np.asarray(episode.rewards, np.float64), gamma)
        last[row : end + 1] = end
        terminated[row : end + 1] = episode.terminated
        row = end + 1
    scale = return_scale if return_scale is not None else float(max(returns.max(), -returns.min())) or 1.0
    labels = np.divide(returns, scale, out=aligned_zeros(returns.shape, np.float32))
    dataset = Dataset(episodes.observations, episodes.actions, episodes.rewards, labels, last, terminated)
    for array in dataset:
        array.flags.writeable = False
    return dataset, scale


def append_transitions(dataset: Dataset, transitions: Transition) -> Dataset:
    """The data set with transitions that nobody recorded behind it, each an episode of one step. Host.

    They carry no return-to-go: they serve learners that look one step ahead, not world models.

    Args:
      transitions: host arrays, leading axis n.
    """
    count = len(transitions.reward)

    def two_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Row 2 i holds `first[i]`, row 2 i + 1 `second[i]`."""
        return np.stack([first, second], axis=1).reshape(2 * count, *first.shape[1:])

    zeros = np.zeros(count, np.float32)
    last = (len(dataset.last) + 1 + 2 * np.arange(count)).astype(np.int32)
    terminated = np.asarray(transitions.terminated, bool)
    added = Dataset(
        observations=two_rows(np.asarray(transitions.observation), np.asarray(transitions.next_observation)),
        actions=two_rows(np.asarray(transitions.action), np.zeros_like(transitions.action)),
        rewards=two_rows(np.asarray(transitions.reward), zeros),
        returns_to_go=two_rows(zeros, zeros),
        last=two_rows(last, last),
        terminated=two_rows(terminated, terminated),
    )
    return Dataset(*(np.concatenate(arrays) for arrays in zip(dataset, added, strict=True)))


def transition_rows(dataset: Dataset) -> np.ndarray:
    """The rows that hold an action, hence start a transition: shape (P,), int32. Host."""
    return np.flatnonzero(np.arange(len(dataset.last), dtype=np.int32) < dataset.last).astype(np.int32)


def state_normalizer(dataset: Dataset) -> AffineNormalizer:
    """Standardises the states that an action was taken in: the units of learners, and of errors. Host."""
    return fit_standard(dataset.observations[transition_rows(dataset)])


def start_rows(dataset: Dataset, num_steps: int) -> np.ndarray:
    """The rows of the first `num_steps` actions of every episode: shape (n,), int32. Host."""
    rows = transition_rows(dataset)
    return rows[step_of_row(dataset)[rows] < num_steps]


def step_of_row(dataset: Dataset) -> np.ndarray:
    """The steps of its episode before every row: shape (N,). Host."""
    first_row = np.append(0, np.unique(dataset.last)[:-1] + 1)
    return np.arange(len(dataset.last)) - first_row[episode_of_row(dataset)]


def segment_rows(dataset: Dataset, sequence_length: int, pad: str, episodes: np.ndarray | None = None) -> np.ndarray:
    """The rows at which a segment may start. Host.

    Args:
      sequence_length: T.
      pad: "absorb" starts at every action and lets `segment_at` pad; "drop" keeps whole segments only, whose T
        rewards were all recorded (the paper's code). Of two rows the second is the next state alone, so there it
        keeps the transitions that terminated as well.
      episodes: take these episodes only (indices in order of the data); None takes all.

    Raises:
      ValueError: on another `pad`, or when no segment is left.
    """
    rows = transition_rows(dataset)
    if episodes is not None:
        is_taken = np.isin(np.arange(num_episodes(dataset)), episodes)
        rows = rows[is_taken[episode_of_row(dataset)[rows]]]
    if pad == "drop":
        ends = dataset.terminated[rows] if sequence_length == 2 else np.zeros(len(rows), bool)
        rows = rows[ends | (rows + sequence_length <= dataset.last[rows])]
    elif pad != "absorb":
        raise ValueError(f'pad must be "absorb" or "drop", got {pad!r}')
    if len(rows) == 0:
        raise ValueError(f"no episode to take segments from is long enough for {sequence_length} rows")
    return rows


def episode_of_row(dataset: Dataset) -> np.ndarray:
    """Index of the episode each row belongs to, shape (R,), int32. Host."""
    is_last = dataset.last == np.arange(len(dataset.last), dtype=np.int32)
    return np.asarray(np.cumsum(is_last, dtype=np.int32) - is_last)


def num_episodes(dataset: Dataset) -> int:
    """How many episodes the rows hold. Host."""
    return int(np.sum(dataset.last == np.arange(len(dataset.last), dtype=np.int32)))


def episode_returns(dataset: Dataset, gamma: float = 1.0) -> np.ndarray:
    """Return of each episode from its start, sum_t gamma^t r_t, raw units: shape (episodes,). Host."""
    return np.bincount(episode_of_row(dataset), weights=dataset.rewards * gamma ** step_of_row(dataset))


def split_episodes(dataset: Dataset, holdout_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides the episodes at random into (training, held-out) indices, the same for a seed.

    A positive fraction holds out at least one episode and leaves at least one; with a single episode none is held out.
    """
    count = num_episodes(dataset)
    order = np.random.default_rng(seed).permutation(count)
    held_out = min(count - 1, max(1, round(holdout_fraction * count))) if holdout_fraction > 0 else 0
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def segment_at(dataset: Dataset, row: Array, sequence_length: int) -> Segment:
    """The segment of T rows that starts at `row`. Jit-able, one segment; `jax.vmap` makes a batch.

    Past a termination rows repeat the terminal state with reward 0 (absorbing) and stay terminated; past a
    truncation they are masked. The final row of a truncated episode is masked as well: its reward is unknown.

    Args:
      row: int32 scalar from `segment_rows`.
    """
    wanted_T = row + jnp.arange(sequence_length)
    last = dataset.last[row]
    rows_T = jnp.minimum(wanted_T, last)
    recorded_T = wanted_T < last
    return Segment(
        observations=jnp.asarray(dataset.observations)[rows_T],
        rewards=jnp.where(recorded_T, jnp.asarray(dataset.rewards)[rows_T], 0.0),
        actions=jnp.where(recorded_T[:, None], jnp.asarray(dataset.actions)[rows_T], 0.0),
        return_to_go=dataset.returns_to_go[row],
        mask=(recorded_T | dataset.terminated[row]).astype(jnp.float32),
        terminated=dataset.terminated[row] & (wanted_T + 1 >= last),
    )


def recorded_steps(dataset: Dataset, row: Array, horizon: int, gamma: float) -> Trajectory:
    """What was recorded in the H steps from the transition at `row` on. Jit-able, one transition.

    A discount is 0 from the step on that terminated the episode, else gamma - also at the step a truncation followed.
    Past a truncation the last state stays with reward 0 and discount 1, so that every return over the trajectory,
    H-step or lambda, is bootstrapped at the last state that was recorded.

    Args:
      row: int32 scalar, the row of an action.
      horizon: H >= 1.
    """
    wanted_H = row + jnp.arange(horizon)
    last = dataset.last[row]
    recorded_H = wanted_H < last
    terminated_H = dataset.terminated[row] & (wanted_H + 1 >= last)
    return Trajectory(
        next_observations=jnp.asarray(dataset.observations)[jnp.minimum(wanted_H + 1, last)],
        rewards=jnp.where(recorded_H, jnp.asarray(dataset.rewards)[jnp.minimum(wanted_H, last)], 0.0),
        discounts=jnp.where(terminated_H, 0.0, jnp.where(recorded_H, gamma, 1.0)),
    )


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 over all arrays: the same data, however it was stored, has the same fingerprint."""
    digest = hashlib.sha256()
    for name, array in dataset._asdict().items():
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _discounted_sums(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """`returns.returns_to_go` on the host in float64: the system  g_t - gamma g_{t+1} = r_t  solved from its end.

    `scipy.signal.lfilter` does it too, and takes a second to import.
    """
    upper_band = np.ones((2, len(rewards)), order="F")
    upper_band[0] = -gamma
    return np.asarray(dtbsv(1, upper_band, rewards))
