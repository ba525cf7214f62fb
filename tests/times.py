"""Where the time of a test session goes, file by file: `pytest --times`, which is `make times`.

Seconds on the clock grow with whatever else the machine does; seconds of processors, those of processes that a test
started and waited for included, say what the tests ask for.
"""

import os
from collections import Counter
from collections.abc import Iterator

import jax.monitoring
import pytest

# jax tells of every program that it compiles, or finds in its cache.
PROGRAM = "/jax/core/compile/backend_compile_duration"
COLUMNS = ("clock", "before tests", "processors", "compiling", "programs", "tests")
_since_last_report: Counter[str] = Counter()


def _hear(event: str, seconds: float, **about: object) -> None:
    if event == PROGRAM:
        _since_last_report.update({"programs": 1, "compiling": seconds})


jax.monitoring.register_event_duration_secs_listener(_hear)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", action="store_true", help="print where the time went, file by file")


def _processors() -> float:
    return sum(os.times()[:4])


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[PROCESSORS] = _processors()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    processors = _processors()
    spent = processors - item.config.stash[PROCESSORS]
    item.config.stash[PROCESSORS] = processors
    # Properties travel from the processes of pytest-xdist to the one that prints.
    report.user_properties.append(("times", dict(_since_last_report) | {"processors": spent}))
    _since_last_report.clear()
    return report


PROCESSORS = pytest.StashKey[float]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--times"):
        return
    files: dict[str, Counter[str]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            file = files.setdefault(report.nodeid.partition("::")[0], Counter())
            file.update({"tests": report.when == "call", "clock": report.duration})
            file.update({"before tests": report.duration * (report.when == "setup")})
            file.update(dict(report.user_properties)["times"])
    by_time = sorted(files.items(), key=lambda entry: entry[1]["processors"])
    terminalreporter.write_line(" ".join(f"{name:>12}" for name in COLUMNS) + "  file (seconds)")
    for name, file in [*by_time, ("together", sum(files.values(), Counter()))]:
        numbers = (f"{file[column]:12.{0 if column in ('programs', 'tests') else 1}f}" for column in COLUMNS)
        terminalreporter.write_line(" ".join(numbers) + f"  {name}")
