"""Episodes in one block of memory, as a data set lays them out, and what is refused of an episode."""

import math
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from dwm_jax.types import Episode

# Arrays that start at a multiple of this many bytes are taken over by a CPU device without a copy.
ALIGNMENT = 64
# Of a recorded number: squares of larger ones, summed over the rows, overflow float32.
LARGEST_VALUE = 1e15


class EpisodeRows(Sequence[Episode]):
    """Episodes laid out as `dataset.Dataset` lays them out; each item is a view, so reading them takes memory once.

    Attributes:
      observations: (R, O) float32.
      actions, rewards: (R, A), (R,) float32, 0 in last rows.
    """

    def __init__(self, num_steps: int, num_episodes: int, observation_size: int, action_size: int):
        """Room for so many steps in so many episodes; `append` fills it."""
        rows = num_steps + num_episodes
        self.observations = aligned_zeros((rows, observation_size), np.float32)
        self.actions = aligned_zeros((rows, action_size), np.float32)
        self.rewards = aligned_zeros((rows,), np.float32)
        self._starts = [0]
        self._terminated: list[bool] = []

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "EpisodeRows":
        """A copy of any episodes.

        Raises:
          ValueError: one fails `check_episode`, or differs in size from the first; the message names it.
        """
        for index, episode in enumerate(episodes):
            check_episode(episode, index, np.shape(episodes[0].observations)[1:])
            sizes = np.shape(episode.actions)[1:], np.shape(episodes[0].actions)[1:]
            if sizes[0] != sizes[1]:
                raise ValueError(f"episode {index}: actions have shape {sizes[0]}, earlier ones {sizes[1]}")
        if not episodes:
            return cls(0, 0, 0, 0)
        num_steps = sum(len(episode.actions) for episode in episodes)
        first = episodes[0]
        rows = cls(num_steps, len(episodes), first.observations.shape[1], first.actions.shape[1])
        for episode in episodes:
            rows.append(episode)
        return rows

    def append(self, episode: Episode) -> None:
        """Copies an episode of L + 1 observations into the next L + 1 rows, which must be there."""
        start, last = self._starts[-1], self._starts[-1] + len(episode.actions)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which `check_episode` refuses
            self.observations[start : last + 1] = episode.observations
            self.actions[start:last] = episode.actions
            self.rewards[start:last] = episode.rewards
        self._starts.append(last + 1)
        self._terminated.append(bool(episode.terminated))

    def __len__(self) -> int:
        return len(self._terminated)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...

    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, last = self._starts[index], self._starts[index + 1] - 1
        return Episode(
            self.observations[start : last + 1],
            self.actions[start:last],
            self.rewards[start:last],
            self._terminated[index],
        )


def check_episode(episode: Episode, index: int, observation_shape: tuple[int, ...] | None) -> None:
    """Refuses an episode that would poison training.

    Raises:
      ValueError: wrong ranks or lengths, no step, no rewards, a value that is not finite or too large to
        be squared; the message names the episode, the array and the place.
    """
    name = f"episode {index}"
    length = len(episode.actions)
    if episode.rewards is None or np.size(episode.rewards) == 0:
        raise ValueError(f"{name} has no rewards")
    if length < 1:
        raise ValueError(f"{name} has no step; an episode needs at least one")
    expected = {"observations": (length + 1, 2), "actions": (length, 2), "rewards": (length, 1)}
    for field, (rows, rank) in expected.items():
        array = np.asarray(getattr(episode, field))
        if array.ndim != rank or len(array) != rows:
            raise ValueError(
                f"{name}: {field} have shape {array.shape}, expected {rows} rows and {rank} axes for {length} actions"
            )
        if (unusable := find_unusable(array)) is not None:
            place = tuple(int(i) for i in np.argwhere(unusable)[0])
            number = array[place]
            raise ValueError(f"{name}: {field}{list(place)} is {number:g}; data must be {describe_usable(number)}")
    if observation_shape is not None and episode.observations.shape[1:] != observation_shape:
        raise ValueError(
            f"{name}: observations have shape {episode.observations.shape[1:]}, earlier episodes {observation_shape}"
        )


def find_unusable(array: np.ndarray) -> np.ndarray | None:
    """Where numbers are not finite, or too large to be squared: bool; None where all can be used."""
    if array.min(initial=0) >= -LARGEST_VALUE and array.max(initial=0) <= LARGEST_VALUE:  # without a copy
        return None
    return ~(np.abs(array) <= LARGEST_VALUE)


def describe_usable(unusable: float) -> str:
    """What data must be, for the line that refuses a number which `find_unusable` has found."""
    return f"at most {LARGEST_VALUE:g} in size" if np.isfinite(unusable) else "finite"


def aligned_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """`numpy.zeros` at an address that is a multiple of `ALIGNMENT`; numpy promises less."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
