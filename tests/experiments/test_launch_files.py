"""What is written for other machines: manifests of the form their readers document, the image, and what they start.

No cluster reads them here. The forms below are what Kubernetes (batch/v1), JobSet (v1alpha2) and SkyPilot say of the
fields that are used; a field that is not among them is a mistake.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from experiments.sweep import launch_files
from experiments.sweep.plan import PlannedRun, Stage, parse_config
from tests import manifests

SMOKE = "smoke"
ROOT = Path(__file__).parents[2]
# Every variable of any manifest.
VALUES = {
    "IMAGE": "registry/dwm_jax:cuda",
    "CLAIM": "runs",
    "LINE": 2,
    "HOSTS": 4,
    "DEVICES": 8,
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x8",
    "NODES": 2,
    "ACCELERATORS": "H100:8",
    "VOLUME": "runs",
}


def assert_fits(value: object, form: object, where: str = "manifest") -> None:
    """A form is a type, a set of values, a pattern, a list of one form, or a dict: by key, `key?` where it may lack.

    The key `*` stands for any.
    """
    if isinstance(form, dict):
        assert isinstance(value, dict), where
        known = {key.rstrip("?"): one for key, one in form.items()}
        assert {key for key in form if not key.endswith("?") and key != "*"} <= value.keys(), where
        for key, one in value.items():
            assert isinstance(key, str), f"{where}.{key}"
            assert key in known or "*" in known, f"{where}.{key} is unknown"
            assert_fits(one, known.get(key, known.get("*")), f"{where}.{key}")
    elif isinstance(form, list):
        assert isinstance(value, list), where
        assert value, where
        for index, one in enumerate(value):
            assert_fits(one, form[0], f"{where}[{index}]")
    elif isinstance(form, re.Pattern):
        assert isinstance(value, str), where
        assert form.fullmatch(value), f"{where} is {value!r}"
    elif isinstance(form, set):
        assert value in form, f"{where} is {value!r}"
    else:
        assert type(value) is form, f"{where} is {value!r}"


NAME = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")  # a DNS label of 63, with room for what controllers append
FOLDER = re.compile(r"/\S+")


def job_spec(fail: str, **limit: object) -> dict:
    """A Job of indexed pods with a policy for their failures, which wants pods that are not restarted in place."""
    return {
        "completionMode": {"Indexed"},
        "completions": int,
        "parallelism": int,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": {fail, "Ignore"},
                    "onExitCodes?": {"operator": {"In"}, "values": [int]},
                    "onPodConditions?": [{"type": {"DisruptionTarget"}}],
                }
            ]
        },
        "template": {
            "spec": {
                "restartPolicy": {"Never"},
                "nodeSelector?": {"*": str},
                "containers": [
                    {
                        "name": NAME,
                        "image": str,
                        "command": [str],
                        "env": [{"name": re.compile(r"[A-Z_]+"), "value": str}],
                        "ports?": [{"containerPort": int}],
                        "resources": {"limits": {"*": int}},
                        "volumeMounts": [{"name": NAME, "mountPath": FOLDER}],
                    }
                ],
                "volumes": [{"name": NAME, "persistentVolumeClaim": {"claimName": NAME}}],
            }
        },
        **limit,
    }


JOB = {
    "apiVersion": {"batch/v1"},
    "kind": {"Job"},
    "metadata": {"name": NAME},
    "spec": job_spec("FailIndex", backoffLimitPerIndex=int),  # an index can fail where each has a limit of its own
}
JOBSET = {
    "apiVersion": {"jobset.x-k8s.io/v1alpha2"},
    "kind": {"JobSet"},
    "metadata": {"name": NAME, "annotations?": {"*": str}},
    "spec": {
        "network": {"enableDNSHostnames": {True}, "publishNotReadyAddresses": {True}},
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [{"action": {"FailJobSet"}, "onJobFailureReasons": [{"PodFailurePolicy"}]}],
        },
        "replicatedJobs": [{"name": NAME, "template": {"spec": job_spec("FailJob", backoffLimit={0})}}],
    },
}
SKYPILOT = {
    "name": NAME,
    "num_nodes": int,
    "resources": {
        "accelerators": re.compile(r"[A-Z]\w*:\d+"),
        "use_spot": {True},
        "image_id": re.compile(r"docker:\S+"),
        "job_recovery": {"recover_on_exit_codes": [set(range(256))]},
    },
    "volumes": {"*": str},
    "envs": {"*": str},
    "run": str,
}
FORMS = {
    "policies.yaml": JOB,
    "world_models.yaml": JOB,
    "policies.gpu.jobset.yaml": JOBSET,
    "world_models.tpu.jobset.yaml": JOBSET,
    "policies.sky.yaml": SKYPILOT,
}


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of two stages with two runs each."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [PlannedRun(name, folder / name, SMOKE, {}, parse_config(SMOKE, {})) for name in ("one", "other")]
    stages = [Stage(name, tuple(runs)) for name in ("world_models", "policies")]
    written = launch_files.write(stages, folder / "launch", folder, None)
    assert set(FORMS) <= {path.name for path in written}
    return folder / "launch"


def read(path: Path) -> dict:
    text = path.read_text()
    (names,) = re.findall(r"envsubst '([^']*)'", text)
    return manifests.filled(text, **{name[1:]: VALUES[name[1:]] for name in names.split()})


@pytest.mark.parametrize("name", FORMS)
def test_manifests_have_the_form_their_readers_document(name: str, launch: Path) -> None:
    assert_fits(read(launch / name), FORMS[name])


@pytest.mark.parametrize(
    "change", [{"kind": "Jobset"}, {"spec": {}}, {"status": {}}, {"metadata": {"name": "Upper_case"}}]
)
def test_another_form_is_noticed(change: dict, launch: Path) -> None:
    with pytest.raises(AssertionError):
        assert_fits(read(launch / "policies.gpu.jobset.yaml") | change, JOBSET)


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form is not SKYPILOT])
def test_a_stopped_pod_comes_again_and_a_wrong_command_does_not(name: str, launch: Path) -> None:
    manifest = read(launch / name)
    by_code = {
        code: rule["action"]
        for rule in manifests.job_of(manifest)["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert by_code == {2: "FailJob" if manifest["kind"] == "JobSet" else "FailIndex", 75: "Ignore", 143: "Ignore"}


def test_a_spot_machine_that_was_taken_away_is_no_failure(launch: Path) -> None:
    task = read(launch / "policies.sky.yaml")
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 143]
    # What it goes on from outlives it.
    assert task["volumes"] == {str(launch.parent): "runs"}


def test_the_pods_of_a_job_set_know_the_first_by_its_name(launch: Path) -> None:
    manifest = read(launch / "world_models.tpu.jobset.yaml")
    name, job = manifest["metadata"]["name"], manifests.job_of(manifest)
    # JobSet: <set>-<job>-<index of the job>-<index of the pod>, in the subdomain that is called as the set.
    first = f"{name}-{manifest['spec']['replicatedJobs'][0]['name']}-0-0.{name}"
    assert manifests.container(manifest).environment["COORDINATOR"] == f"{first}:8476"
    assert (job["completions"], job["parallelism"]) == (4, 4)
    pod = manifests.pod_of(manifest)
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 8}
    assert set(pod["nodeSelector"].values()) == {"tpu-v5-lite-podslice", "4x8"}


# Says its process id and its arguments, one of which has to be quoted.
SHOWN = """sh -c 'echo $$ "$@"' sh '(1, 3)'"""


@pytest.mark.parametrize("kind", ["gpu.jobset", "sky"])
def test_what_starts_is_the_line_itself_with_its_place_among_others(kind: str, launch: Path, tmp_path: Path) -> None:
    manifest = read(launch / f"policies.{kind}.yaml")
    (launch / "policies.txt").write_text(f"false\n{SHOWN}\n")
    if kind == "sky":
        given = manifest["envs"] | {"SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8", "SKYPILOT_NODE_RANK": "1"}
        given |= {"SKYPILOT_NUM_NODES": "2"}
        command = ["bash", "-c", manifest["run"].replace("cd /dwm_jax", f"cd {tmp_path}")]
        coordinator, number = "10.0.0.7:8476", 2
    else:
        command, given = manifests.container(manifest)
        coordinator, number = given["COORDINATOR"], 4
        given |= {"JOB_COMPLETION_INDEX": "1"}
    with subprocess.Popen(command, env=os.environ | given, stdout=subprocess.PIPE, text=True) as process:
        shown = process.communicate()[0]
    # The same process: a signal to it reaches the run.
    assert shown == (
        f"{process.pid} (1, 3) --coordinator {coordinator} --num-processes {number} --process-id 1 "
        "--expect-platform gpu\n"
    )


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, with their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def test_the_image_is_made_of_what_is_there_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]]
    assert {"dwm_jax", "experiments", "requirements.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert ("WORKDIR", "/dwm_jax") in instructions()  # where SkyPilot's task goes


@pytest.mark.parametrize(("extra", "added"), [("", []), ("cuda13", ["jax[cuda13]"])])
def test_the_image_gets_the_pinned_requirements_and_those_of_its_accelerator(
    extra: str, added: list[str], tmp_path: Path
) -> None:
    (command,) = (rest for name, rest in instructions() if name == "RUN")
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JAX_EXTRA": extra}
    shown = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["install", "--no-cache-dir", "-r", "requirements.txt", *added]
