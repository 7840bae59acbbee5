"""What a job is told of where its home is and whose key it signs with."""

from pathlib import Path

import pytest

from raymlops.submit.place import Place


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMLOPS_ACCESS", "access.yaml")
    monkeypatch.setenv("RAYMLOPS_KEY", "/keys/tina.pem")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.delenv("RAYMLOPS_HOME", raising=False)
    return tmp_path


def test_a_job_here_has_the_same_home_rules_key_and_registry(told: Path) -> None:
    found = Place(here=True, python="python", spec=Path("spec.yaml")).variables()
    assert found["RAYMLOPS_HOME"] == str(told / ".raymlops")
    assert found["RAYMLOPS_ACCESS"] == str(told / "access.yaml")
    assert found["RAYMLOPS_KEY"] == "/keys/tina.pem"
    assert found["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


def test_a_job_elsewhere_is_told_what_was_said_and_no_folder_of_this_machine(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(here=False, python="python", spec=Path("spec.yaml"))
    found = place.variables()
    assert "RAYMLOPS_HOME" not in found
    assert found["RAYMLOPS_ACCESS"] == "access.yaml"
    assert str(told) not in "".join(found.values())
    monkeypatch.setenv("RAYMLOPS_HOME", "/shared/home")
    assert place.variables()["RAYMLOPS_HOME"] == "/shared/home"
