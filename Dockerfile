# The package with its pinned requirements, on a CPU or an accelerator; runs and prepared data live on a mounted folder.
#
#     docker build -t dwm_jax .
#     docker build -t dwm_jax:cuda --build-arg JAX_EXTRA=cuda13 .
#     docker run -v "$PWD/runs:/runs" dwm_jax python -m dwm_jax.train --config quickstart --workdir /runs/quickstart
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
# What jax calls its accelerator: cuda13, cuda12, tpu; empty for a CPU. It brings CUDA along, the host only the driver.
ARG JAX_EXTRA=
WORKDIR /dwm_jax
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt ${JAX_EXTRA:+"jax[$JAX_EXTRA]"}
COPY LICENSE .
COPY dwm_jax dwm_jax
COPY experiments experiments
# No shell around it: a request to stop reaches the run, which saves.
CMD ["python", "-m", "dwm_jax.train", "--help"]
