"""The XLA flags under which small programs are ready soonest: compiling is most of what tests, and short runs, do.

`export XLA_FLAGS="$(python tests/xla_flags.py)"` sets them for a shell.
"""

from importlib.metadata import version

# Without fusion emitters, each fusion is LLVM at once and does not pass through MLIR: a third of the processor time for
# a policy update. An XLA that does not know a flag ends the process, and jaxlib 0.12 has lost this one.
SOONEST_READY = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1" + (
    " --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
)

if __name__ == "__main__":
    print(SOONEST_READY)
