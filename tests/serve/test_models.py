"""Which models an endpoint holds after a change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raymlops import registry
from raymlops.codec import digest_folder
from raymlops.engine import write_choice
from raymlops.errors import Conflict, EngineError, NotFound
from raymlops.serve import describe
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.metrics import Meter
from raymlops.serve.models import Model, Models, find, load, next_models
from raymlops.values import Version


def test_what_is_loaded_already_is_kept_and_not_loaded_again(make: Any) -> None:
    one, two = make("one").wanted, make("two").wanted
    before = next_models(Models(), [one])
    after = next_models(before, [one, two])
    assert after.loaded["one"] is before.loaded["one"]
    assert set(after.loaded) == {"one", "two"}
    assert set(before.loaded) == {"one"}


def test_a_new_version_and_a_new_choice_of_engine_are_loaded(make: Any) -> None:
    first, second = make(number=1).wanted, make(number=2, seed=1).wanted
    before = next_models(Models(), [first])
    assert next_models(before, [second]).loaded["small"].wanted.number == 2
    assert next_models(before, [replace(first, choice="d")]).loaded["small"] is not before.loaded["small"]


def test_what_is_no_longer_wanted_is_dropped(make: Any) -> None:
    before = next_models(Models(), [make("one").wanted, make("two").wanted])
    assert set(next_models(before, [before.loaded["two"].wanted]).loaded) == {"two"}


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_answering(make: Any) -> None:
    good, other = make(number=1).wanted, make("other").wanted
    broken = make(number=2).wanted
    (Path(broken.path) / "model.ubj").write_bytes(b"no model")
    after = next_models(next_models(Models(), [good, other]), [broken, other])
    assert after.loaded["small"].wanted.number == 1
    assert "registered was" in after.failed["small", 2]
    assert set(after.loaded) == {"small", "other"}


def test_an_engine_may_raise_what_it_likes(make: Any) -> None:
    def failing(wanted: Any) -> Model:
        raise RuntimeError("engine")

    after = next_models(Models(), [make().wanted], load=failing)
    assert after.failed == {("small", 1): "RuntimeError: engine"}


def test_a_folder_that_is_not_there_is_named(make: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone"):
        load(replace(make().wanted, path=str(tmp_path / "gone")))


def test_a_file_that_was_changed_never_reaches_an_engine(make: Any) -> None:
    """XGBoost aborts the process on an empty model file."""
    wanted = make().wanted
    (Path(wanted.path) / "model.ubj").write_bytes(b"")
    with pytest.raises(Conflict, match="registered was"):
        load(wanted)


def test_a_model_that_its_engine_cannot_read_is_an_engine_error(make: Any) -> None:
    wanted = make().wanted
    (Path(wanted.path) / "model.ubj").write_bytes(b"no model")
    with pytest.raises(EngineError):
        load(replace(wanted, digest=digest_folder(Path(wanted.path))))


def test_an_unknown_name_gets_the_nearest_one(make: Any) -> None:
    models = next_models(Models(), [make("prices").wanted])
    with pytest.raises(NotFound, match="did you mean 'prices'"):
        find(models, "price", None)
    with pytest.raises(NotFound, match="version '7': is not served; served is 1"):
        find(models, "prices", "7")


def _chosen(made: Any, engine: Any, *others: Any) -> None:
    wanted = made.wanted
    version = Version(name=wanted.name, number=1, digest=wanted.digest, path=Path(wanted.path))
    write_choice(version, engine, "a test", fallback=others)


def test_where_the_chosen_engine_cannot_be_loaded_the_next_answers_and_the_endpoint_says_so(make: Any) -> None:
    made = make()
    _chosen(made, {"tensorrt": {"module": "tensorrt"}}, {"onnxruntime": "int8"}, "onnxruntime", "native")
    models = next_models(Models(), [made.wanted])
    model = models.loaded["small"]
    assert model.engine == "onnxruntime"
    said: Any = describe.ready(models, "small", None)["parameters"]
    first, second = said["passed"].splitlines()
    assert first.startswith("tensorrt: engine 'tensorrt': tensorrt is not installed")
    assert second.startswith("onnxruntime: ")
    assert "nothing to quantize" in second
    endpoint = Endpoint(Meter())
    endpoint.serve(models, frozenset())
    endpoint.serve(models, frozenset())
    page = endpoint.meter.page().decode()
    label = 'model="small"'
    counted = [line for line in page.splitlines() if line.startswith("raymlops_fallbacks_total") and label in line]
    assert counted == [
        'raymlops_fallbacks_total{engine="onnxruntime",model="small",reason="EngineError",version="1"} 1.0',
        'raymlops_fallbacks_total{engine="tensorrt",model="small",reason="MissingExtra",version="1"} 1.0',
    ]


def test_a_strict_model_is_not_answered_by_another_engine(make: Any) -> None:
    made = make()
    _chosen(made, {"tensorrt": {"module": "tensorrt"}}, "native")
    models = next_models(Models(), [replace(made.wanted, strict=True)])
    assert not models.loaded
    assert "tensorrt is not installed" in models.failed["small", 1]


def test_a_model_whose_engine_answers_has_passed_none_over(make: Any) -> None:
    made = make()
    _chosen(made, "onnxruntime", "native")
    models = next_models(Models(), [made.wanted])
    assert (models.loaded["small"].engine, models.loaded["small"].passed) == ("onnxruntime", ())


def test_where_signatures_are_asked_for_an_unsigned_model_never_reaches_an_engine(
    make: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make().wanted
    public = registry.new_key(tmp_path / "tina")
    home.mkdir(parents=True, exist_ok=True)
    (home / "access.yaml").write_text(f'people: {{tina: {{key: "{public}", roles: [trainer]}}}}\n')
    with pytest.raises(Conflict, match="is not signed"):
        load(wanted)
    monkeypatch.setenv("RAYMLOPS_KEY", str(tmp_path / "tina"))
    registry.sign(Version(name=wanted.name, number=wanted.number, digest=wanted.digest, path=Path(wanted.path)))
    assert load(wanted).engine == "native"
    (home / "access.yaml").write_text(f'people: {{tina: {{key: "{public}", roles: [deployer]}}}}\n')
    with pytest.raises(Conflict, match="was signed by tina, who is no trainer"):
        load(wanted)
