"""Whatever is sent to any route is answered as /openapi.json says, and never by a 5xx: 5,000 requests made from it."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from raymlops.serve.app import App, build
from raymlops.serve.models import Models
from raymlops.serve.request import route

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "raymlops/serve/openapi.yaml").read_text())
ROUTES = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item if method in ("get", "post")]
load_all_checks()
# Which columns a model takes, and what may stand in them, is in its contract and not in the document.
(positive_data_acceptance,) = CHECKS.get_by_names(["positive_data_acceptance"])
NEGATIVE = GenerationMode.NEGATIVE
INFER = 1_200  # of each of the two routes with a body that matters, in each of the two ways
OTHER = 100


@pytest.fixture(scope="module")
def app(models: Models) -> App:
    return build(models)


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [(*of, GenerationMode.POSITIVE) for of in ROUTES]
    + [(path, method, NEGATIVE) for path, method in ROUTES if method == "post"],
)
def test_a_route_answers_as_it_says(path: str, method: str, mode: GenerationMode, app: App) -> None:
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method.upper()]
    seen: set[int] = set()

    @settings(
        max_examples=INFER if path.endswith("/infer") else OTHER,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if "name" in case.path_parameters and (
            mode is GenerationMode.NEGATIVE or len(case.path_parameters["name"]) > 1
        ):
            # A name that is made up finds nothing: half of them are one that is served.
            case.path_parameters |= {"name": "small"} | ({"version": "1"} if "version" in case.path_parameters else {})
        seen.add(case.call_and_validate(excluded_checks=[positive_data_acceptance]).status_code)

    check()
    assert seen
    if path.endswith("/infer"):
        assert 400 in seen, seen


def test_every_path_of_the_document_is_a_route() -> None:
    made = [route(path.replace("{name}", "a").replace("{version}", "1")) for path, _ in ROUTES]
    assert [found and found.method.lower() for found in made] == [method for _, method in ROUTES]
    assert len({found and (found.kind, found.version) for found in made}) == len(ROUTES)
