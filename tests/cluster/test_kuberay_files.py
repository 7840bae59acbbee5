"""The Kubernetes files, read by Ray's own parsers. Knows nothing of a Kubernetes: none is asked."""

import copy
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

CLUSTER = Path(__file__).parents[2] / "cluster"
# File name: (kind, where the cluster stands in its spec).
FILES = {"raycluster": ("RayCluster", None), "rayjob": ("RayJob", "rayClusterSpec")}


def manifest(name: str) -> dict[str, Any]:
    """Return the one object that a file holds."""
    document = yaml.safe_load((CLUSTER / "kuberay" / f"{name}.yaml").read_text())
    assert isinstance(document, dict)
    return document


def cluster_of(name: str) -> dict[str, Any]:
    """Return the RayCluster spec inside any of the three files."""
    spec, place = manifest(name)["spec"], FILES[name][1]
    cluster = spec if place is None else spec[place]
    assert isinstance(cluster, dict)
    return cluster


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pod specs, the head's first."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def as_the_autoscaler_sees(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the config that Ray's autoscaler makes of a cluster; it ends in Ray's own validation."""
    resource = {"metadata": {"name": "raymlops", "namespace": "default"}, "spec": copy.deepcopy(cluster)}
    config = _derive_autoscaling_config_from_ray_cr(resource)
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_one_object_of_the_stable_api(name: str) -> None:
    document = manifest(name)
    assert document["apiVersion"] == "ray.io/v1"
    assert document["kind"] == FILES[name][0]
    assert set(document["metadata"]) & {"name", "generateName"}


@pytest.mark.parametrize("name", FILES)
def test_the_versions_are_those_of_this_checkout(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["rayVersion"] == ray.__version__
    for pod in pods(cluster):
        assert [container["image"] for container in pod["containers"]] == ["raymlops:0.1.0"]


@pytest.mark.parametrize("name", FILES)
def test_the_token_comes_from_a_secret_and_stands_in_no_file(name: str) -> None:
    assert cluster_of(name)["authOptions"] == {"mode": "token", "secretName": "raymlops-auth"}
    assert manifest(name)["kind"] != "Secret"


@pytest.mark.parametrize("name", FILES)
def test_the_autoscaler_finds_a_head_without_work_and_a_gpu_group_that_starts_empty(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["enableInTreeAutoscaling"] is True
    config = as_the_autoscaler_sees(cluster)
    nodes = config["available_node_types"]
    assert nodes[config["head_node_type"]]["resources"]["CPU"] == 0
    assert "GPU" not in nodes[config["head_node_type"]]["resources"]
    gpu = nodes["gpu"]
    assert (gpu["resources"]["GPU"], gpu["resources"]["CPU"], gpu["labels"]) == (1, 8, {"pool": "gpu"})
    assert gpu["min_workers"] == 0 < gpu["max_workers"]
    groups = cluster["workerGroupSpecs"]
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups)


def test_a_group_without_its_upper_bound_is_refused() -> None:
    cluster = cluster_of("raycluster")
    del cluster["workerGroupSpecs"][0]["maxReplicas"]
    with pytest.raises(KeyError, match="maxReplicas"):
        as_the_autoscaler_sees(cluster)


@pytest.mark.parametrize("name", FILES)
def test_every_pod_asks_for_what_it_may_use_and_has_room_for_shared_objects(name: str) -> None:
    for pod in pods(cluster_of(name)):
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        assert volume["emptyDir"]["medium"] == "Memory"
        limit = container["resources"]["limits"]["memory"]
        assert gibibytes(volume["emptyDir"]["sizeLimit"]) <= gibibytes(limit) // 3


def gibibytes(quantity: str) -> int:
    """Read a Kubernetes quantity that is written in Gi."""
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


@pytest.mark.parametrize("name", FILES)
def test_no_pod_runs_as_root(name: str) -> None:
    for pod in pods(cluster_of(name)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("name", ["raycluster"])
def test_surviving_the_head_is_one_uncommented_block_away(name: str) -> None:
    text = (CLUSTER / "kuberay" / f"{name}.yaml").read_text()
    lines = text.splitlines()
    first = next(row for row, line in enumerate(lines) if "# gcsFaultToleranceOptions:" in line)
    block = lines[first : first + 5]
    assert all(line.lstrip().startswith("# ") for line in block)
    text = text.replace("\n".join(block), "\n".join(line.replace("# ", "", 1) for line in block))
    spec = yaml.safe_load(text)["spec"]
    cluster = spec[FILES[name][1]] if FILES[name][1] else spec
    assert set(cluster["gcsFaultToleranceOptions"]) == {"redisAddress", "redisPassword"}


def test_the_job_trains_the_example_once_within_a_deadline_and_leaves_nothing_running() -> None:
    spec = manifest("rayjob")["spec"]
    assert spec["entrypoint"] == "python jobs/train.py jobs/flights.yaml"
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["shutdownAfterJobFinishes"] is True


def test_the_service_finds_the_workers_of_the_cluster_by_a_port_that_they_have() -> None:
    service, cluster = manifest("endpoint"), manifest("raycluster")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    selector = {"ray.io/cluster": cluster["metadata"]["name"], "ray.io/node-type": "worker"}  # KubeRay's own labels
    assert service["spec"]["selector"] == selector
    (port,) = service["spec"]["ports"]
    workers = pods(cluster_of("raycluster"))[1:]
    named = [{p["name"]: p["containerPort"] for p in pod["containers"][0]["ports"]} for pod in workers]
    assert [ports[port["targetPort"]] for ports in named] == [port["port"]] * len(workers)


def test_the_image_starts_as_a_numbered_user_behind_the_token_and_as_pinned() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    by_word = {word: [rest for key, rest in steps if key == word] for word, _ in steps}
    assert by_word["FROM"] == ["python:3.11-slim"]
    assert by_word["USER"] == ["1000"]
    assert "RAY_AUTH_MODE=token" in by_word["ENV"][0].split()
    installs = [step for step in by_word["RUN"] if "pip install" in step]
    assert len(installs) == 1
    assert "-c constraints.txt" in installs[0]
    places = {container["workingDir"] for name in FILES for pod in pods(cluster_of(name))
              for container in pod["containers"]}  # fmt: skip
    assert places == set(by_word["WORKDIR"])
