"""`python -m MODULE ARGUMENTS` many times with its imports once: a process that has them forks for each.

They are nearly all that a refused command takes.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[1]
# What imports nearly all that any command does; another module's own imports are left to the fork.
IMPORTED = "dwm_jax.train"


class RunModule(Protocol):
    def __call__(self, module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a module in the top folder of the repository, and waits for its end.

        Args:
          environment: what it sees beside this process's own; too late for what is read by imports or by Python itself.
        """


@contextmanager
def forked() -> Iterator[RunModule]:
    """What runs a module, on the CPU, for as often as it is called inside the block."""
    server = [sys.executable, "-W", "ignore", "-m", "tests.commands"]  # jax warns of forks, for its threads' sake
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # read by the import of jax
    with subprocess.Popen(
        server, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
            print(json.dumps([module, arguments, os.environ | environment]), file=requests, flush=True)
            return subprocess.CompletedProcess([module, *arguments], *json.loads(answers.readline()))

        yield run


def _serve() -> None:
    """Answers each line of module, arguments and environment by one of exit code, output and errors.

    A fork has none of its parent's threads. jax starts those it computes with together with its first backend, for
    which it reads XLA_FLAGS: this process only imports, and a fork begins as a fresh process does.
    """
    importlib.import_module(IMPORTED)
    del sys.modules[IMPORTED]  # it runs as __main__ alone
    for request in iter(sys.stdin.readline, ""):
        module, arguments, environment = json.loads(request)
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            child = os.fork()
            if child == 0:
                for number, file in enumerate((open(os.devnull), stdout, stderr)):  # noqa: SIM115
                    os.dup2(file.fileno(), number)
                os.environ.clear()
                os.environ.update(environment)
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
                return
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said = [file.seek(0) or file.read() for file in (stdout, stderr)]
        print(json.dumps([code, *said]), flush=True)


if __name__ == "__main__":
    _serve()
