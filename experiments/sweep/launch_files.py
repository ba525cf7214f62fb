"""The commands for machines that this one cannot start runs on: as lists, for TPU pods, for Kubernetes."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from dwm_jax.runtime import files

from .plan import Stage

TPU_POD = """\
#!/bin/bash
# Runs the commands of a list one after the other, each on all hosts of a TPU pod. A run that ends early goes on when
# this is started again.
#
#     POD=my-pod ZONE=my-zone REPOSITORY=dwm_jax bash tpu_pod.sh world_models.txt
#     POD=my-pod ZONE=my-zone REPOSITORY=dwm_jax bash tpu_pod.sh policies.txt
set -u
failed=0
while read -r command <&3; do
  gcloud compute tpus tpu-vm ssh "$POD" --zone "$ZONE" --worker=all \\
    --command "cd $REPOSITORY && $command --distributed" || { failed=1; echo "failed: $command" >&2; }
done 3< "$1"
exit $failed
"""

# A pod takes the line of its index. Exit code 2 says that the command or its config is wrong: no retry would help. 75
# (in use by another process) and 143 (asked to stop, and saved) are no failures: the pod comes again and goes on.
KUBERNETES_JOB = """\
# One pod with one GPU for each command of {stage}.txt. IMAGE holds this repository in its working folder, its
# requirements and the prepared data; CLAIM is a volume claim that holds {mount}.
#
#     IMAGE=... CLAIM=... envsubst '$IMAGE $CLAIM' < {stage}.yaml | kubectl apply -f -
apiVersion: batch/v1
kind: Job
metadata:
  name: dwm-jax-{name}
spec:
  completionMode: Indexed
  completions: {count}
  parallelism: {at_a_time}
  backoffLimitPerIndex: 6
  podFailurePolicy:
    rules:
      - action: FailIndex
        onExitCodes: {{operator: In, values: [2]}}
      - action: Ignore
        onExitCodes: {{operator: In, values: [75, 143]}}
      - action: Ignore
        onPodConditions: [{{type: DisruptionTarget}}]
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: train
          image: $IMAGE
          command: [sh, -c, 'eval "exec $(sed -n $((JOB_COMPLETION_INDEX + 1))p {folder}/{stage}.txt)"']
          resources: {{limits: {{nvidia.com/gpu: 1}}}}
          volumeMounts: [{{name: runs, mountPath: {mount}}}]
      volumes:
        - name: runs
          persistentVolumeClaim: {{claimName: $CLAIM}}
"""


def write(stages: Sequence[Stage], folder: Path, mount: Path, at_a_time: int | None) -> list[Path]:
    """Writes a list of commands and a Kubernetes Job per stage, and a script for TPU pods.

    Args:
      stages: with at least one run each.
      folder: where to.
      mount: the folder of the runs, which is the same on every machine.
      at_a_time: pods at a time; None: all.
    """
    texts = {"tpu_pod.sh": TPU_POD}
    for stage in stages:
        texts[f"{stage.name}.txt"] = "".join(shlex.join(run.command) + "\n" for run in stage.runs)
        texts[f"{stage.name}.yaml"] = KUBERNETES_JOB.format(
            stage=stage.name,
            name=stage.name.replace("_", "-"),
            count=len(stage.runs),
            at_a_time=at_a_time or len(stage.runs),
            folder=folder,
            mount=mount,
        )
    for name, text in texts.items():
        files.write(folder / name, text)
    return [folder / name for name in texts]
