"""The desired state of an endpoint and the document it becomes."""

from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from raymlops.codec import dumps
from raymlops.errors import NotFound, SpecError
from raymlops.serve.scale import LOAD, replicas_for
from raymlops.serve.state import Served, State, add, document, read, remove, settled

VARIABLES = {"RAYMLOPS_HOME": "/home"}
EMPTY = State(cluster="session-1", host="127.0.0.1", port=8000)


def model(name: str, number: int = 1, **words: object) -> Served:
    made = Served(name=name, number=number, digest="d", path="/m", max_rows=10, choice="c", replicas=1, keys=None)
    return replace(made, **words)  # type: ignore[arg-type]


def added(*models: Served) -> State:
    state = EMPTY
    for one in models:
        state = add(state, one, host="127.0.0.1", port=8000)
    return state


def user_config(state: State) -> object:
    return document(state, variables=VARIABLES)["applications"][0]["deployments"][0]["user_config"]  # type: ignore[index,call-overload]


def test_a_new_version_takes_the_place_of_its_models_old_one_and_of_no_other() -> None:
    state = added(model("a"), model("b"), model("a", 2))
    assert [(m.name, m.number) for m in state.models] == [("a", 2), ("b", 1)]


def test_the_order_of_adding_does_not_show() -> None:
    assert added(model("a"), model("b")) == added(model("b"), model("a"))


def test_a_version_changes_only_the_user_config_so_that_replicas_stay() -> None:
    first, second = (added(model("a", n), model("b")) for n in (1, 2))
    written = [dumps(document(state, variables=VARIABLES)) for state in (first, second)]
    assert written[0] != written[1]
    assert [text.replace(dumps(user_config(s)), b"") for text, s in zip(written, (first, second), strict=True)] == [
        written[0].replace(dumps(user_config(first)), b"")
    ] * 2


def test_models_of_one_endpoint_share_its_address() -> None:
    with pytest.raises(SpecError, match=r"serves a at 127\.0\.0\.1:8000"):
        add(added(model("a")), model("b"), host="127.0.0.1", port=8001)
    assert add(added(model("a")), model("a", 2), host="127.0.0.1", port=8001).port == 8001


def test_one_spec_with_keys_shuts_the_endpoint_for_all() -> None:
    config = user_config(added(model("a", keys="/k2"), model("b"), model("c", keys="/k1"), model("d", keys="/k1")))
    assert config["keys"] == ["/k1", "/k2"]  # type: ignore[index]


def test_the_most_replicas_that_a_spec_asks_for_are_there() -> None:
    made = document(added(model("a", replicas=3), model("b")), variables=VARIABLES)
    assert made["applications"][0]["deployments"][0]["num_replicas"] == 3  # type: ignore[index,call-overload]


def test_replicas_follow_the_load_where_a_spec_gives_two_numbers() -> None:
    made = document(added(model("a", replicas=2, most_replicas=5), model("b")), variables=VARIABLES)
    deployment: Any = made["applications"][0]["deployments"][0]  # type: ignore[index,call-overload]
    scaled = deployment["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["max_replicas"], deployment["num_replicas"]) == (2, 5, "auto")


@pytest.mark.parametrize(
    ("loads", "needed"), [([], 1), ([0.0], 1), ([0.6], 1), ([0.61], 2), ([0.9, 0.9], 3), ([0.1, 0.1], 1), ([6.0], 10)]
)
def test_a_replica_is_asked_for_each_six_tenths_of_load(loads: list[float], needed: int) -> None:
    context = SimpleNamespace(aggregated_metrics={LOAD: dict(enumerate(loads))})
    assert replicas_for(context) == (needed, {})
    assert replicas_for(SimpleNamespace(aggregated_metrics=None)) == (1, {})


@pytest.mark.parametrize(("shares", "held"), [((0.25, 0.0, 0.5), 0.75), ((1.0, 1.0, 0.5), 1.0), ((0.0, 0.0, 0.0), 0.0)])
def test_a_replica_holds_what_its_models_need_of_a_gpu_together(shares: tuple[float, ...], held: float) -> None:
    models = [model(name, gpus=share) for name, share in zip("abc", shares, strict=True)]
    made = document(added(*models), variables=VARIABLES)
    deployment: Any = made["applications"][0]["deployments"][0]  # type: ignore[index,call-overload]
    assert deployment["ray_actor_options"] == {"num_cpus": 0.1, "num_gpus": held}


def test_what_others_deployed_is_sent_along() -> None:
    other = {"name": "theirs", "import_path": "a:b", "route_prefix": "/theirs"}
    assert document(added(model("a")), variables=VARIABLES, others=[other])["applications"][0] == other  # type: ignore[index]
    assert document(EMPTY, variables=VARIABLES, others=[other])["applications"] == [other]


def test_a_removed_model_is_gone_and_an_unknown_one_is_not_found() -> None:
    assert [m.name for m in remove(added(model("a"), model("b")), "a").models] == ["b"]
    with pytest.raises(NotFound, match="served are a"):
        remove(added(model("a")), "b")


def test_the_state_of_another_cluster_is_dropped() -> None:
    state = added(model("a"))
    assert settled(state, cluster="session-1", host="h", port=1) == state
    assert settled(state, cluster="session-2", host="h", port=1) == State(cluster="session-2", host="h", port=1)
    assert settled(None, cluster="s", host="h", port=1).models == ()


def test_a_state_survives_its_file() -> None:
    state = added(model("a", keys="/k"), model("b"))
    assert read(orjson.loads(dumps(asdict(state)))) == state
