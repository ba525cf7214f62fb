"""The same work by PyTorch, with the temporal U-Net that Decision Diffuser publishes, from a checkout of it.

    git clone https://github.com/anuragajay/decision-diffuser
    python -m experiments.benchmark.pytorch decision-diffuser --json speed.jsonl       torch and einops installed

Nothing of the checkout but its two files of networks is imported. Training is a batch of noise prediction, Adam and the
moving average, sampling N steps of both branches of the guidance; data lie on the device. The network asks for a return
alone, not for an action: a little less work than ours.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path
from typing import Any

from dwm_jax.runtime import files, provenance, terminal
from dwm_jax.runtime.arguments import local_path

from .denoiser import BATCH
from .figures import HEADER, Figure, json_line, rate, table_row
from .settings import FULL, QUICK, SIZES, Plan
from .timing import Effort, Timed, time_in_turns

# Where the networks lie in a checkout.
FOLDER = Path("code", "diffuser", "models")
NAME = "published_by_decision_diffuser"


@terminal.guard_output()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m experiments.benchmark.pytorch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", type=local_path, help="of Decision Diffuser")
    parser.add_argument("--size", choices=tuple(SIZES), default="paper-hopper", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="short repetitions")
    parser.add_argument("--json", type=local_path, metavar="FILE", help="appends one JSON line per figure")
    options = parser.parse_args(arguments)
    if not (options.checkout / FOLDER / "temporal.py").exists():
        parser.error(f"{options.checkout} is no checkout of Decision Diffuser: it has no {FOLDER / 'temporal.py'}")
    try:
        figures = measure_published(options.checkout, options.size, QUICK if options.quick else FULL)
    except ImportError as error:
        parser.error(f"{error}; pip install torch einops")
    print(HEADER)
    for figure in figures:
        print(table_row(figure))
    if options.json is not None:
        circumstances = provenance.describe_circumstances()
        files.append(options.json, "".join(json_line(figure, circumstances) for figure in figures))


def load_temporal_unet(checkout: Path) -> Any:
    """The published class; the package around it, which wants a simulator and a logger, stays out."""
    package = types.ModuleType(NAME)
    package.__path__ = [str(checkout / FOLDER)]
    # What its helpers import for losses that are not used here.
    stubs = {name: types.ModuleType(name) for name in ("diffuser", "diffuser.utils")}
    earlier = {name: sys.modules.get(name) for name in stubs}
    sys.modules |= {NAME: package, **stubs}
    try:
        return importlib.import_module(f"{NAME}.temporal").TemporalUnet
    finally:
        for name, module in earlier.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def measure_published(checkout: Path, size_name: str, plan: Plan) -> list[Figure]:
    """Updates and guided trajectories per second, in turns, beside the matrix product of the same library."""
    torch: Any = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZES[size_name]
    settings = size.make_config().world_models.dwm.to_dict()
    torch.manual_seed(0)
    network = load_temporal_unet(checkout)(
        horizon=settings["sequence_length"],
        transition_dim=size.observation_size + 1,
        cond_dim=size.observation_size,
        dim=settings["width"],
        dim_mults=tuple(settings["multipliers"]),
        returns_condition=True,
        condition_dropout=0.25,
    ).to(device)
    matrix_size = plan.matrix_size or (2048 if device == "cpu" else 8192)
    matrix = torch.randn(matrix_size, matrix_size, device=device) / matrix_size**0.5

    def synchronised(run: Timed) -> Timed:
        def call() -> None:
            run()
            if device == "cuda":
                torch.cuda.synchronize()

        return call

    runs: dict[str, Timed] = {
        "updates": make_training(torch, network, settings, size.observation_size + 1, device),
        "trajectories": make_sampling(torch, network, settings, size.observation_size + 1, device),
        "product": lambda: matrix @ matrix,
    }
    effort = Effort(plan.repetitions, plan.seconds, matrix_size)
    timings = time_in_turns({name: synchronised(run) for name, run in runs.items()}, effort)
    peaks = tuple(2 * matrix_size**3 / seconds for seconds in timings["product"].seconds)
    described = settings | {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "torch": torch.__version__,
        "on": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    return [
        rate("pytorch", size_name, name, unit, count, timings[run], peaks=peaks, settings=described)
        for run, name, unit, count in (
            ("updates", "PyTorch: denoiser updates", "updates/s", 1),
            ("trajectories", f"PyTorch: guided trajectories, batch {BATCH}", "trajectories/s", BATCH),
        )
    ]


def make_training(torch: Any, network: Any, settings: dict[str, Any], row_size: int, device: str) -> Timed:
    """One update: noise prediction, Adam, the moving average every so many updates."""
    rows = torch.randn(10_000, settings["sequence_length"], row_size, device=device)
    returns = torch.rand(10_000, 1, device=device)
    alphas_bar = torch.linspace(0.99, 0.01, settings["num_diffusion_steps"], device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"])
    averages = [parameter.detach().clone() for parameter in network.parameters()]
    updates = 0

    def update() -> None:
        nonlocal updates
        batch = torch.randint(len(rows), (settings["batch_size"],), device=device)
        steps = torch.randint(len(alphas_bar), (len(batch),), device=device)
        x, noise, alpha_bar = rows[batch], torch.randn_like(rows[batch]), alphas_bar[steps, None, None]
        noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        loss = ((network(noisy, None, steps, returns[batch]) - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates += 1
        if updates % settings["ema_every"] == 0:
            with torch.no_grad():
                for average, parameter in zip(averages, network.parameters(), strict=True):
                    average.lerp_(parameter, 1 - settings["ema_rate"])

    return update


def make_sampling(torch: Any, network: Any, settings: dict[str, Any], row_size: int, device: str) -> Timed:
    """A batch of guided trajectories: deterministic steps from noise, the first row given."""
    returns = torch.rand(BATCH, 1, device=device)
    given, weight = torch.randn(BATCH, row_size, device=device), settings["guidance_weight"]
    alphas_bar = torch.linspace(0.99, 0.01, settings["num_sampling_steps"], device=device)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def sample() -> None:
        x = torch.randn(BATCH, settings["sequence_length"], row_size, device=device)
        for step in range(len(alphas_bar) - 1, -1, -1):
            x[:, 0] = given
            steps = torch.full((BATCH,), step, device=device)
            asked = network(x, None, steps, returns, use_dropout=False)
            free = network(x, None, steps, returns, force_dropout=True)
            noise = free + weight * (asked - free)
            x0 = (x - (1 - alphas_bar[step]).sqrt() * noise) / alphas_bar[step].sqrt()
            before = alphas_bar[step - 1] if step else torch.ones((), device=device)
            x = before.sqrt() * x0 + (1 - before).sqrt() * noise

    return sample


if __name__ == "__main__":
    main()
