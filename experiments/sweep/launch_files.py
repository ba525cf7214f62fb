"""The commands for machines on which this one cannot start runs: as lists, for TPU pods, Kubernetes and SkyPilot.

The image of all manifests is the one that the Dockerfile makes. Exit code 2 says that the command or its config is
wrong: no retry would help. 75 (in use by another process) and 143 (asked to stop, and saved) are no failures: what
starts the command again goes on with it.
"""

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

# A pod takes the line of its index.
KUBERNETES_JOB = """\
# One pod with one GPU for each command of {stage}.txt. IMAGE is made by the Dockerfile; CLAIM is a volume claim that
# holds {mount}, with prepared data in {mount}/minari.
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
          env: [{{name: MINARI_DATASETS_PATH, value: {mount}/minari}}]
          resources: {{limits: {{nvidia.com/gpu: 1}}}}
          volumeMounts: [{{name: runs, mountPath: {mount}}}]
      volumes:
        - name: runs
          persistentVolumeClaim: {{claimName: $CLAIM}}
"""

# The processes of a run leave with one exit code. Pods that were stopped come again by themselves and meet again; where
# one was lost without a word, jax ends the others with an error, and all are started anew.
JOBSET = """\
# One command of {stage}.txt on several hosts: a pod on each, one process with all its {devices}. Needs JobSet (v0.6 or
# newer) in the cluster. IMAGE is made by the Dockerfile; CLAIM is a volume claim that every host can mount, and holds
# {mount}, with prepared data in {mount}/minari. LINE is 1 to {count},
# {asked}.
#
#     for LINE in $(seq {count}); do
#       export LINE IMAGE=... CLAIM=... {exports}
#       envsubst '$LINE $IMAGE $CLAIM {names}' < {stage}.{kind}.jobset.yaml | kubectl apply -f -
#     done
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: dwm-jax-{name}-$LINE{annotations}
spec:
  network: {{enableDNSHostnames: true, publishNotReadyAddresses: true}}
  failurePolicy:
    maxRestarts: 6
    rules:
      - action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: hosts
      template:
        spec:
          completionMode: Indexed
          completions: $HOSTS
          parallelism: $HOSTS
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {{operator: In, values: [2]}}
              - action: Ignore
                onExitCodes: {{operator: In, values: [75, 143]}}
              - action: Ignore
                onPodConditions: [{{type: DisruptionTarget}}]
          template:
            spec:
              restartPolicy: Never{node_selector}
              containers:
                - name: train
                  image: $IMAGE
                  command:
                    - sh
                    - -c
                    - >-
                      eval "exec $(sed -n ${{LINE}}p {folder}/{stage}.txt) --coordinator $COORDINATOR
                      --num-processes $HOSTS --process-id $JOB_COMPLETION_INDEX --expect-platform $PLATFORM"
                  env:
                    # The first pod, by the name that JobSet gives it.
                    - {{name: COORDINATOR, value: 'dwm-jax-{name}-$LINE-hosts-0-0.dwm-jax-{name}-$LINE:8476'}}
                    - {{name: PLATFORM, value: {kind}}}
                    - {{name: MINARI_DATASETS_PATH, value: {mount}/minari}}
                  ports: [{{containerPort: 8476}}]
                  resources: {{limits: {{{resource}: $DEVICES}}}}
                  volumeMounts: [{{name: runs, mountPath: {mount}}}]
              volumes:
                - name: runs
                  persistentVolumeClaim: {{claimName: $CLAIM}}
"""
GPU_NODES = {
    "kind": "gpu",
    "devices": "GPUs",
    "resource": "nvidia.com/gpu",
    "asked": "HOSTS the number of nodes, DEVICES that of the GPUs of each",
    "exports": "HOSTS=2 DEVICES=8",
    "names": "$HOSTS $DEVICES",
    "annotations": "",
    "node_selector": "",
}
TPU_SLICE = {
    "kind": "tpu",
    "devices": "chips",
    "resource": "google.com/tpu",
    "asked": "HOSTS the number of a slice's hosts, DEVICES that of the chips of each, ACCELERATOR and TOPOLOGY GKE's",
    "exports": "HOSTS=4 DEVICES=4 ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4",
    "names": "$HOSTS $DEVICES $ACCELERATOR $TOPOLOGY",
    # All pods of a run in one slice, and no other's there.
    "annotations": """
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool""",
    "node_selector": """
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $ACCELERATOR
                cloud.google.com/gke-tpu-topology: $TOPOLOGY""",
}

SKYPILOT_TASK = """\
# One command of {stage}.txt as a managed job of SkyPilot, on spot machines: where one is taken away, the next goes on
# from the last checkpoint and ends as if nothing had happened. VOLUME is a volume (sky volumes apply) that every node
# can mount, and holds {mount}, with prepared data in {mount}/minari. A mounted bucket does not do: it takes no locks or
# no appended lines, or uploads files in any order. IMAGE is made by the Dockerfile; LINE is 1 to {count}.
#
#     export LINE=1 NODES=1 ACCELERATORS=H100:8 IMAGE=... VOLUME=...
#     envsubst '$LINE $NODES $ACCELERATORS $IMAGE $VOLUME' < {stage}.sky.yaml > job.yaml && sky jobs launch job.yaml
name: dwm-jax-{name}-$LINE
num_nodes: $NODES
resources:
  accelerators: $ACCELERATORS
  use_spot: true
  image_id: docker:$IMAGE
  job_recovery:
    recover_on_exit_codes: [75, 143]
volumes:
  {mount}: $VOLUME
envs:
  PLATFORM: gpu
  MINARI_DATASETS_PATH: {mount}/minari
run: |
  # The image's python and folder, not SkyPilot's own.
  export PATH="/usr/local/bin:$PATH"
  cd /dwm_jax
  COORDINATOR=$(echo "$SKYPILOT_NODE_IPS" | head -n 1):8476
  eval "exec $(sed -n ${{LINE}}p {folder}/{stage}.txt) --coordinator $COORDINATOR \\
    --num-processes $SKYPILOT_NUM_NODES --process-id $SKYPILOT_NODE_RANK --expect-platform $PLATFORM"
"""


def write(stages: Sequence[Stage], folder: Path, mount: Path, at_a_time: int | None) -> list[Path]:
    """Writes a list of commands and its manifests per stage, and a script for TPU pods.

    Args:
      stages: with at least one run each.
      folder: where to.
      mount: the folder of the runs, which is the same on every machine.
      at_a_time: pods at a time; None: all.
    """
    texts = {"tpu_pod.sh": TPU_POD}
    for stage in stages:
        places = {
            "stage": stage.name,
            "name": stage.name.replace("_", "-"),
            "count": len(stage.runs),
            "folder": folder,
            "mount": mount,
        }
        texts[f"{stage.name}.txt"] = "".join(shlex.join(run.command) + "\n" for run in stage.runs)
        texts[f"{stage.name}.yaml"] = KUBERNETES_JOB.format(**places, at_a_time=at_a_time or len(stage.runs))
        for hosts in (GPU_NODES, TPU_SLICE):
            texts[f"{stage.name}.{hosts['kind']}.jobset.yaml"] = JOBSET.format(**places, **hosts)
        texts[f"{stage.name}.sky.yaml"] = SKYPILOT_TASK.format(**places)
    for name, text in texts.items():
        files.write(folder / name, text)
    return [folder / name for name in texts]
