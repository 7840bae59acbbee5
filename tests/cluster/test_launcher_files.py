"""The files for `ray up`, read by Ray's own schema. Knows nothing of a cloud: no machine is asked for."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.label_utils import validate_node_labels

CLUSTER = Path(__file__).parents[2] / "cluster"
LAUNCHERS = ["local", "aws", "gcp"]
CLOUDS = ["aws", "gcp"]

# prepare_config ends the whole process on some mistakes (provider local), so Ray judges in one of its own.
JUDGE = """
import json, sys
from ray.autoscaler._private.util import prepare_config, validate_config
config = prepare_config(json.load(sys.stdin))
validate_config(config)
print("PREPARED " + json.dumps(config))
"""


def launcher(name: str) -> dict[str, Any]:
    """Return one launcher file as Ray would read it."""
    config = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    assert isinstance(config, dict)
    return config


def judged_by_ray(config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run Ray's offline validation on `config`; return code 0 means that Ray takes it."""
    return subprocess.run(
        [sys.executable, "-c", JUDGE],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start_commands(config: dict[str, Any]) -> list[str]:
    """Return the head's and the workers' start commands, which must both be given."""
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    assert len(head) == len(worker) == 1
    return [str(head[0]), str(worker[0])]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_each_launcher_file_and_keeps_our_start_commands(name: str) -> None:
    config = launcher(name)
    verdict = judged_by_ray(config)
    assert verdict.returncode == 0, verdict.stderr
    prepared = json.loads(verdict.stdout.split("PREPARED ")[1])
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[key] == config[key]
    assert "ray stop" not in json.dumps(prepared)
    downloads = [c for c in prepared["head_setup_commands"] + prepared["worker_setup_commands"] if "://" in c]
    assert downloads == []


def test_a_typo_in_a_launcher_file_is_refused() -> None:
    config = launcher("aws")
    config["idle_timeout_minute"] = config.pop("idle_timeout_minutes")
    verdict = judged_by_ray(config)
    assert verdict.returncode != 0
    assert "idle_timeout_minute" in verdict.stderr


def test_half_a_cpu_is_refused() -> None:
    config = copy.deepcopy(launcher("gcp"))
    config["available_node_types"]["head"]["resources"]["CPU"] = 1.5
    verdict = judged_by_ray(config)
    assert verdict.returncode != 0
    assert "1.5 is not of type 'integer'" in verdict.stderr


def test_own_hosts_without_a_head_are_refused() -> None:
    config = launcher("local")
    del config["provider"]["head_ip"]
    assert judged_by_ray(config).returncode != 0


def test_no_file_ends_every_ray_of_a_host() -> None:
    files = [file for file in CLUSTER.rglob("*") if file.is_file()]
    assert len(files) >= 9
    for file in files:
        text = " ".join(file.read_text().split())
        for word in ("ray stop", "pkill", "killall"):
            assert word not in text, f"{file}: {word}"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_node_starts_once_and_behind_the_token(name: str) -> None:
    for command in start_commands(launcher(name)):
        assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in command
        assert "bash ~/raymlops/cluster/node.sh start ray start" in command
        assert "--block" in command.split()
    assert (CLUSTER / "node.sh").is_file()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_token_is_copied_to_where_ray_looks_for_it(name: str) -> None:
    config = launcher(name)
    remote = {place for place, origin in config["file_mounts"].items() if origin == "~/.ray/auth_token"}
    assert len(remote) == 1
    place = remote.pop().replace("~", "$HOME")
    for command in start_commands(config):
        assert f'RAY_AUTH_TOKEN_PATH="{place}"' in command


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_head_shows_its_dashboard_to_loopback_only_and_the_workers_join_it(name: str) -> None:
    head, worker = (command.split() for command in start_commands(launcher(name)))
    assert [word for word in head if word.startswith("--dashboard-host")] == ["--dashboard-host=127.0.0.1"]
    assert {"--head", "--port=6379", "--autoscaling-config=~/ray_bootstrap_config.yaml"} <= set(head)
    assert "--address=$RAY_HEAD_IP:6379" in worker


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_copied_checkout_is_installed_as_pinned(name: str) -> None:
    config = launcher(name)
    assert config["file_mounts"]["~/raymlops"] == "."
    commands = config["setup_commands"] + config.get("head_setup_commands", [])
    installs = [command for command in commands if "pip install" in command]
    assert installs[0] == "cd ~/raymlops && ~/raymlops-env/bin/pip install -c constraints.txt ."
    assert all("pip install -c constraints.txt " in command for command in installs)


@pytest.mark.parametrize("name", CLOUDS)
def test_gpus_are_paid_for_only_while_they_work(name: str) -> None:
    config = launcher(name)
    types = config["available_node_types"]
    head = config["head_node_type"]
    assert "GPU" not in types[head]["resources"]
    assert any(node["resources"].get("GPU", 0) >= 1 for node in types.values())
    workers = [node for key, node in types.items() if key != head]
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in workers)
    assert sum(node["max_workers"] for node in workers) <= config["max_workers"]
    assert config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("name", CLOUDS)
def test_node_types_have_whole_resources_and_labels_that_ray_takes(name: str) -> None:
    types = launcher(name)["available_node_types"]
    for node in types.values():
        assert node["resources"], "an empty map would leave the autoscaler to guess"
        assert all(type(amount) is int for amount in node["resources"].values())
        validate_node_labels(node["labels"])
    pools = [node["labels"]["pool"] for node in types.values()]
    assert sorted(pools) == ["cpu", "gpu", "head"]


@pytest.mark.parametrize("name", CLOUDS)
def test_machine_images_are_left_for_the_reader_to_name(name: str) -> None:
    text = json.dumps(launcher(name)["available_node_types"])
    images = [word for word in text.replace('"', " ").replace("}", " ").split() if word.startswith("FILL_IN_")]
    assert sorted(set(images)) == ["FILL_IN_CPU_IMAGE", "FILL_IN_GPU_IMAGE"]
    assert "ami-" not in text
    assert "projects/" not in text
