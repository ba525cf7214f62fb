"""What the conversion of data did that its owner may want to know, in sentences."""

from collections.abc import Mapping
from typing import Any

from dwm_jax.data.actions import ACTION_TOLERANCE
from dwm_jax.data.d4rl_tasks import OTHER, UNTOLD


def collect_notes(provenance: Mapping[str, Any]) -> list[str]:
    """Everything worth saying about a data set; `provenance` is what its preparation recorded (`Stored.provenance`)."""
    pairs = zip(provenance.get("sources", []), provenance.get("findings", []), strict=False)
    of_files = [f"{source['file']}: {note}" for source, finding in pairs for note in file_notes(finding)]
    return of_files + data_notes(provenance)


def file_notes(finding: Mapping[str, Any]) -> list[str]:
    """What the conversion of one file did that its owner may want to know."""
    told = _reward_notes(finding) if "reward_kept" in finding else []
    if finding["cuts"]:
        told.append(
            f"{finding['cuts']:,} episode ends without a terminal or timeout flag (next_observations differ from the "
            f"next row), first at row {finding['first_cut']:,}; episodes were cut there"
        )
    if finding["trailing_steps"]:
        told.append(f"{finding['trailing_steps']:,} steps after the last end are a truncated episode")
    if finding["clipped_actions"]:
        told.append(_clipping_note(finding["clipped_actions"], finding.get("largest_excess", 0.0)))
    return told


def _clipping_note(rows: int, largest_excess: float) -> str:
    """How many actions were clipped, and by how much."""
    why = ", beyond it by rounding" if largest_excess <= ACTION_TOLERANCE else ""
    return f"{rows:,} actions clipped to [-1, 1], by up to {largest_excess:.4g}{why}"


def cutting_note(episodes: int, dropped: int, reward: float) -> str:
    """How many episodes were cut where they terminated, and what of them was left out."""
    return (
        f"{episodes:,} episodes go on behind a termination and are cut there; {dropped:,} further terminations in a "
        f"row are left out (rewards {reward:,.6g} in all)"
    )


def data_notes(provenance: Mapping[str, Any]) -> list[str]:
    """What the conversion of a whole data set did that its owner may want to know."""
    told = []
    if provenance.get("origin") == OTHER:
        told.append("not D4RL's file, though it has its name: compare methods with each other on it, not with D4RL's")
    if provenance.get("origin") == UNTOLD:
        told.append("whether it is D4RL's file cannot be told: nobody has published a checksum of that")
    changes = provenance.get("changes", {})
    if changes.get("clipped_actions"):
        told.append(_clipping_note(changes["clipped_actions"], changes["largest_excess"]))
    if changes.get("cut_episodes"):
        told.append(cutting_note(changes["cut_episodes"], changes["dropped_behind"], changes["reward_behind"]))
    if provenance.get("actions") == "scale":
        low, high = provenance["action_range"]
        told.append(f"actions scaled to [-1, 1] from [{low}, {high}]")
    if provenance and provenance.get("environment") is None:
        told.append("no environment is named: it trains world models; policies need one (--env)")
    return told


def _reward_notes(finding: Mapping[str, Any]) -> list[str]:
    """The rewards before and after the conversion of one file, and where the difference went."""
    told = [f"sum of rewards {finding['reward_recorded']:,.6g} in the file, {finding['reward_kept']:,.6g} kept"]
    if finding.get("rewards_moved"):
        told.append(
            "rewards in the file belong to states (reward[t] to observations[t]); they were shifted so that each "
            "transition has the reward of the state it leads to"
        )
    if finding["next_observations"] != "used":
        cause = {"absent": "no next_observations", "shifted": "next_observations only repeat the next row"}
        why = cause[finding["next_observations"]]
        lost = finding["reward_recorded"] - finding["reward_behind"] - finding["reward_kept"]
        followed, repeated = finding["terminals_followed"], finding["terminals_repeated"]
        if finding["dropped_truncated"]:
            told.append(
                f"{why}: {finding['dropped_truncated']:,} truncated episodes lose their last transition "
                f"(rewards {lost:,.6g} in all)"
            )
        if followed or repeated:
            told.append(
                f"{why}: the next state of a terminal transition is the following row ({followed:,}), or its own "
                f"state repeated where another episode follows ({repeated:,})"
            )
    if finding["dropped_behind"]:
        told.append(
            f"{finding['dropped_behind']:,} rows behind the first of a run of terminals left out "
            f"(rewards {finding['reward_behind']:,.6g} in all)"
        )
    return told
