"""The benchmark: its counts of arithmetic, its commands, its rows."""

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.temporal_conv import Downsample, TemporalConv, Upsample
from dwm_jax.networks.temporal_unet import TemporalUnet
from dwm_jax.runtime.row_files import Result, Results
from experiments.benchmark import first_step, processes, whole_run
from experiments.benchmark.__main__ import main
from experiments.benchmark.arithmetic import (
    condition_layers,
    row_layers,
    step_layers,
    touching_taps,
    training_flop,
    trajectory_flop,
)
from experiments.benchmark.engines import dispatch_times
from experiments.benchmark.figures import Figure, rate, readable, record
from experiments.benchmark.parts import find_products, measure_training_parts
from experiments.benchmark.policies import drawing_included, measure_policy_updates, ratio_of_times
from experiments.benchmark.settings import QUICK
from experiments.benchmark.timing import Effort, Timing, time_in_turns

SHAPES = [
    {"length": 8, "row_size": 12, "action_size": 3, "width": 16, "multipliers": (1, 4, 8)},
    {"length": 6, "row_size": 4, "action_size": 1, "width": 8, "multipliers": (1, 2, 4)},
    {"length": 2, "row_size": 4, "action_size": 1, "width": 8, "multipliers": (1, 2)},
]


@pytest.mark.parametrize(
    ("length", "taps", "padding", "stride", "pairs"),
    [
        (8, 5, 2, 1, 3 + 4 + 4 * 5 + 4 + 3),
        (4, 5, 2, 1, 3 + 4 + 4 + 3),
        (2, 5, 2, 1, 2 + 2),
        (1, 5, 2, 1, 1),
        (8, 3, 1, 2, 2 + 3 + 3 + 3),
        (2, 3, 1, 2, 2),
    ],
)
def test_touching_taps_by_hand(length: int, taps: int, padding: int, stride: int, pairs: int) -> None:
    assert touching_taps(length, taps, padding, stride) == pairs


def test_the_smallest_denoiser_by_hand() -> None:
    # One level, T = 2, D = 3, width 8. A convolution at length 2 has 4 pairs of output and tap; the embedding is 384.
    # Blocks: down a with a skip, down b, middle a and b without.
    down_a = 4 * 3 * 8 + 384 * 8 + 4 * 8 * 8 + 2 * 3 * 8
    others = 3 * (4 * 8 * 8 + 384 * 8 + 4 * 8 * 8)
    end = 4 * 8 * 8 + 2 * 8 * 3
    rows = 2 * (down_a + others + end)
    assert sum(layer.flop for layer in row_layers(2, 3, 8, (1,))) == rows
    # return 1 -> 128 -> 512 -> 128, action 5 -> 128 -> 512 -> 128, step 128 -> 512 -> 128
    condition = 2 * (1 * 128 + 128 * 512 + 512 * 128 + 5 * 128 + 128 * 512 + 512 * 128)
    step = 2 * (128 * 512 + 512 * 128)
    assert sum(layer.flop for layer in condition_layers(5)) == condition
    assert sum(layer.flop for layer in step_layers()) == step
    # No gradient with respect to data: first convolution and skip, first layers of return, action and step.
    from_data = 2 * (4 * 3 * 8 + 2 * 3 * 8 + 1 * 128 + 5 * 128 + 128 * 512)
    shape = {"length": 2, "row_size": 3, "action_size": 5, "width": 8, "multipliers": (1,)}
    assert training_flop(**shape) == 3 * (rows + condition + step) - from_data
    # Two steps: both branches, less the convolution and the skip that both share.
    shared = 2 * (4 * 3 * 8 + 2 * 3 * 8)
    assert trajectory_flop(**shape, num_sampling_steps=2, guided=True) == 2 * (2 * rows - shared) + condition
    assert trajectory_flop(**shape, num_sampling_steps=2, guided=False) == 2 * rows + condition


def abstract_call(shape: dict, network: TemporalUnet) -> tuple:
    """(parameters, arguments) of one call of the whole denoiser, as shapes alone."""
    x_TD = jnp.ones((shape["length"], shape["row_size"]))
    arguments = (x_TD, jnp.ones(()), jnp.ones(shape["action_size"]), jnp.ones(()))
    return jax.eval_shape(network.init, jax.random.key(0), *arguments), arguments


@functools.cache
def pairs_of(layer: type[nn.Module], length: int) -> int:
    """Taps that meet data, by letting flax's own layer with a kernel of ones add up a sequence of ones."""
    ones, kernel_init = jnp.ones((1, length, 1)), nn.initializers.ones
    flax = {
        TemporalConv: nn.Conv(1, (5,), padding=[(2, 2)], kernel_init=kernel_init),
        Downsample: nn.Conv(1, (3,), strides=2, padding=[(1, 1)], kernel_init=kernel_init),
        Upsample: nn.ConvTranspose(1, (4,), strides=(2,), kernel_init=kernel_init),
        nn.Dense: nn.Conv(1, (1,), kernel_init=kernel_init),
    }[layer]
    return int(jax.jit(flax.init_with_output)(jax.random.key(0), ones)[0].sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_agree_with_the_layers_the_network_really_has(shape: dict) -> None:
    network = TemporalUnet(shape["width"], shape["multipliers"])
    params, arguments = abstract_call(shape, network)
    seen = []

    def look(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, TemporalConv | Downsample | Upsample | nn.Dense):
            length = args[0].shape[0] if args[0].ndim == 2 else 1
            seen.append((type(context.module), length, args[0].shape[-1], out.shape[-1]))
        return out

    with nn.intercept_methods(look):
        jax.eval_shape(network.apply, params, *arguments)
    layers = [
        *row_layers(shape["length"], shape["row_size"], shape["width"], shape["multipliers"]),
        *condition_layers(shape["action_size"]),
        *step_layers(),
    ]
    counted = [2 * pairs_of(layer, length) * inputs * outputs for layer, length, inputs, outputs in seen]
    assert sorted(counted) == sorted(layer.flop for layer in layers)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_counts_are_below_what_xla_computes(shape: dict) -> None:
    network = TemporalUnet(shape["width"], shape["multipliers"])
    params, arguments = abstract_call(shape, network)
    loss = jax.value_and_grad(lambda params: (network.apply(params, *arguments) ** 2).mean())
    computed = jax.jit(loss).lower(params).cost_analysis()["flops"]
    # Written with padding, a convolution at length 2 takes two and a half times what is useful.
    assert computed / 2 < training_flop(**shape) <= computed


def test_the_papers_size() -> None:
    shape = {"length": 8, "row_size": 12, "action_size": 3, "width": 128, "multipliers": (1, 4, 8)}
    # Some 130 million operations a call, 25 billion for a training step at batch 64, 0.78 billion a trajectory.
    assert 64 * training_flop(**shape) == pytest.approx(25e9, rel=0.02)
    assert trajectory_flop(**shape, num_sampling_steps=3, guided=True) == pytest.approx(0.78e9, rel=0.02)
    np.testing.assert_allclose(sum(layer.flop for layer in row_layers(8, 12, 128, (1, 4, 8))), 130e6, rtol=0.01)


def figure(**fields: object) -> Figure:
    defaults = {"measurement": "training", "size": "tiny", "name": "updates", "unit": "updates/s", "values": (2.0,)}
    return Figure(**(defaults | fields))


def test_quartiles_rate_and_share_of_the_peak_by_hand() -> None:
    # 10 units a call in 5, 2.5 and 1 s: 2, 4 and 10 a second, at 3 operations each 6, 12 and 30 a second.
    timing = Timing(first_call_seconds=7.0, seconds=(5.0, 2.5, 1.0))
    row = record(rate("training", "tiny", "x", "units/s", 10, timing, flop_per_unit=3, peaks=(60.0, 60.0, 60.0)))
    assert (row["first_quartile"], row["median"], row["third_quartile"]) == pytest.approx((3, 4, 7))
    assert row["useful_flops"] == pytest.approx(12)
    assert row["share_of_peak"] == pytest.approx(0.2)
    assert row["first_call_seconds"] == 7.0
    assert row["repetitions"] == 3


def test_drawing_is_spread_over_the_updates() -> None:
    # 100 updates at 10/s take 10 s, drawing for 60 pairs at 2/s 30 s: 100 updates in 40 s.
    together = drawing_included(figure(values=(10.0,)), [2.0], num_pairs=60, num_updates=100)
    assert together.values == pytest.approx((2.5,))


def test_several_seeds_against_one() -> None:
    # 8 updates/s alone, 2 side by side: four times as long.
    assert ratio_of_times(figure(values=(8.0,)), figure(values=(2.0,)), "x", 5).values == (4.0,)


def test_products_of_a_program_by_hand() -> None:
    def function(x: jax.Array, y: jax.Array) -> jax.Array:
        inner = jax.jit(lambda x: x @ y)(x)  # (2, 3) @ (3, 4): 2 * 24 operations, inside a program of its own
        return jnp.einsum("bik,bkj->bij", inner[None], inner.T[None])  # (2, 4) @ (4, 2): 2 * 16

    products = list(find_products(function, jnp.ones((2, 3)), jnp.ones((3, 4))))
    assert [product.flop for product in products] == [48, 32]
    np.testing.assert_array_equal(products[0].compute(jnp.ones((2, 3)), jnp.ones((3, 4))), np.full((2, 4), 3.0))


def test_an_update_computes_no_products_but_the_useful_ones() -> None:
    products, optimiser, update = measure_training_parts("tiny", QUICK._replace(repetitions=1, seconds=0.0))
    # Counted from the program on the left, from shapes alone on the right.
    assert products.flop_per_unit == update.flop_per_unit
    assert optimiser.flop_per_unit is None
    assert all(np.isfinite(f.values).all() and min(f.values) > 0 for f in (products, optimiser, update))


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (4.561, "4.56"), (789.4, "789"), (12_345.6, "12,346"), (None, "")]
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert readable(value) == text


def test_things_are_timed_in_turns() -> None:
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = time_in_turns(runs, Effort(repetitions=2, seconds=0.0, matrix_size=1))
    # First call and warm-up of each, then one of each per repetition.
    assert "".join(calls) == "aabb" + "ab" + "ab"
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_a_process_of_its_own_has_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DWM_TEST", raising=False)
    assert processes.call_in_fresh_process(os.getenv, "DWM_TEST", environment={"DWM_TEST": "there"}) == "there"
    assert "DWM_TEST" not in os.environ


def test_virtual_devices_are_compared_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(function, *arguments, environment):
        count = int(environment["XLA_FLAGS"].split("=")[-1])
        return [figure(values=(12.0 / count,))]

    monkeypatch.setattr(processes, "call_in_fresh_process", fake)
    figures = processes.measure_virtual_devices("tiny", QUICK)
    assert [f.values for f in figures] == [(12.0,), (6.0,), (3.0,), (1.5,), (2.0,), (4.0,), (8.0,)]
    assert all("shared cores" in f.name for f in figures)


def test_engines_are_compared_at_the_same_place() -> None:
    by_pmap, by_shard_map, ratio = dispatch_times("tiny", QUICK._replace(repetitions=1, seconds=0.0))
    assert [f.name for f in (by_pmap, by_shard_map)] == ["a dispatch by pmap", "a dispatch by shard_map"]
    assert ratio.values == pytest.approx([a / b for a, b in zip(by_pmap.values, by_shard_map.values, strict=True)])
    assert by_pmap.settings["leaves"] > 100


def test_joined_processes_have_each_other() -> None:
    environment = processes.with_virtual_devices(2)
    assert processes.call_in_two_joined_processes(jax.device_count, environment=environment) == (4, 4)


def test_first_steps_start_from_nothing_from_data_and_from_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    workdirs, models = [], set()

    def fake(config, workdir, minari, model_folder):
        workdirs.append(workdir)
        models.add(model_folder)
        return float(len(workdirs))

    monkeypatch.setattr(first_step, "seconds_to_first_row", fake)
    monkeypatch.setattr(first_step, "call_in_fresh_process", lambda function: {})
    figures = first_step.measure_first_step("smoke", QUICK._replace(repetitions=1))
    assert [f.values for f in figures] == [(1.0,), (2.0,), (3.0,)]
    # Programs are kept beside the workdir: only the last two runs share them, and none shares a model.
    assert len({workdir.parent for workdir in workdirs}) == 2
    assert workdirs[1].parent == workdirs[2].parent
    assert len(models) == 3


def test_a_score_is_reached_by_the_mean_of_the_newest_evaluation(tmp_path: Path) -> None:
    assert not whole_run.has_reached(tmp_path, -1.0)  # nothing is evaluated yet
    rows = [(5, 0.9), (5, 0.9), (10, 0.2), (10, 0.6)]
    Results(tmp_path / "results.csv").append(
        Result("IQL", "maze", seed, step, 0, 1.0, score, 0.0) for seed, (step, score) in enumerate(rows)
    )
    assert whole_run.has_reached(tmp_path, 0.4)
    assert not whole_run.has_reached(tmp_path, 0.41)


def test_whole_commands_are_rows_by_purpose_and_by_method(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def follow(config, overrides, is_enough):
        asked.append((config, overrides))
        return whole_run.Started(4.0, {"data": 1.0, "updates": 3.0}, reached=overrides.get("methods") != "TD3+BC")

    monkeypatch.setattr(whole_run, "follow", follow)
    monkeypatch.setattr(whole_run, "call_in_fresh_process", lambda function: {})
    once = QUICK._replace(repetitions=1)
    rows = {figure.name: figure.values for figure in whole_run.measure_whole_run("smoke", once)}
    assert rows == {"whole run, data": (1.0,), "whole run, updates": (3.0,), "whole run, all": (4.0,)}
    methods = ("DWM-TD3BC", "TD3+BC")
    named = [
        figure.name for method in methods for figure in whole_run.measure_time_to_score("quickstart", method, once)
    ]
    assert named == ["DWM-TD3BC to 0.3", "TD3+BC to 0.3, not reached by all"]
    assert asked[1:] == [("quickstart", {"methods": name}) for name in methods]


def test_a_command_is_followed_until_it_has_done_enough(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command) as process:
        assert not whole_run.wait(process, lambda: False, until=0.0)  # time is up
        assert whole_run.wait(process, lambda: True, until=float("inf"))
        process.kill()
        process.wait()
        assert not whole_run.wait(process, lambda: False, until=float("inf"))  # it has ended


def test_a_command_that_ends_without_a_word_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match=r"left with 1: without a word$"):
        whole_run.follow("smoke", {}, lambda workdir: False)


@pytest.fixture(scope="module")
def quick_lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict]]:
    """(table, JSON rows) of the command at toy size."""
    file = tmp_path_factory.mktemp("benchmark") / "speed.jsonl"
    output = io.StringIO()
    command = ["--quick", "--only", "peak,training", "--repetitions", "2", "--json", str(file)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        with pytest.raises(SystemExit) as stop:
            main(command)
    assert stop.value.code == 0
    return output.getvalue(), [json.loads(line) for line in file.read_text().splitlines()]


def test_the_table_has_a_row_per_figure(quick_lines: tuple[str, list[dict]]) -> None:
    table, rows = quick_lines
    lines = table.splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[2] for line in lines[2:]] == [row["name"] for row in rows]


def test_json_says_what_where_and_how(quick_lines: tuple[str, list[dict]]) -> None:
    peak, training = quick_lines[1]
    assert peak["unit"] == "GFLOP/s"
    assert (training["measurement"], training["size"], training["unit"]) == ("training", "tiny", "updates/s")
    for row in (peak, training):
        assert len(row["values"]) == row["repetitions"] == 2
        assert row["first_quartile"] <= row["median"] <= row["third_quartile"]
        assert {"processor", "cores", "load_at_start", "python", "jax", "xla_flags", "commit"} <= row.keys()
        assert (row["backend"], row["peak_memory_of"]) == ("cpu", "process")
        assert row["peak_memory_bytes"] > 2**20
    settings = training["settings"]
    row_size = 4 + 1 + int(settings["terminations"])
    shape = {"length": settings["sequence_length"], "row_size": row_size, "action_size": 2}
    shape |= {"width": settings["width"], "multipliers": tuple(settings["multipliers"])}
    assert training["useful_flop_per_unit"] == settings["batch_size"] * training_flop(**shape)


@pytest.mark.parametrize(
    ("learner", "source", "name", "figures"),
    [
        (
            "td3_bc",
            "recorded",
            "TD3+BC model-free",
            ["1 seed", "1 seed, the products of an update alone", "2 seeds", "time of 2 seeds / time of 1"],
        ),
        (
            "iql",
            "pool",
            "IQL DWM from a pool",
            [
                "1 seed",
                "1 seed, drawing included",
                "2 seeds",
                "2 seeds, drawing included",
                "time of 2 seeds / time of 1",
            ],
        ),
    ],
)
def test_a_learner_is_measured_for_one_seed_and_for_all(
    learner: str, source: str, name: str, figures: list[str]
) -> None:
    measured = measure_policy_updates("tiny", learner, source, QUICK._replace(repetitions=1, seconds=0.0))
    assert [f.name for f in measured] == [f"{name}, {figure}" for figure in figures]
    assert all(np.isfinite(f.values).all() and min(f.values) > 0 for f in measured)


RACING = ["--only", "time-to-score"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sizes", "papr"], "error: --sizes: unknown 'papr'; known: quickstart, "),
        (["--only", "speed"], "error: --only: unknown 'speed'; known: peak, "),
        (["--repetitions", "0"], "error: --repetitions 0: must be above 0"),
        (["--seconds", "-1"], "error: --seconds -1.0: must be above 0"),
        ([*RACING, "--races", "walker"], "error: --races: unknown 'walker'; known: smoke, "),
        ([*RACING, "--methods", "IQL"], "error: --methods: unknown 'IQL'; known: DWM-TD3BC, "),
        (["--races", "quickstart"], "error: --races changes nothing of --only peak,training,"),
        (["--quick", "--methods", "DWM-TD3BC"], "error: --methods changes nothing of --only peak,training,"),
        (["--only", "peak", "--sizes", "tiny"], "error: --sizes changes nothing of --only peak; training,parts,"),
        (["--only", "peak,training", "--chunk", "9"], "error: --chunk changes nothing of --only peak,training; samp"),
        (["--only", "first-step", "--seconds", "9"], "error: --seconds changes nothing of --only first-step; peak,"),
        (["--json", "nowhere/at/all.jsonl"], "error: --json nowhere/at/all.jsonl: No such file"),
        (["--fast"], "error: unrecognized arguments: --fast"),
    ],
)
def test_a_wrong_command_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(line)
    assert len(errors.splitlines()) == 1


def test_help_teaches_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "python -m experiments.benchmark --quick" in text
    assert "of the peak" in text
