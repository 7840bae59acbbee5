"""A version that one home registered is fetched by another from the store that both share, whole or not at all."""

import shutil
from pathlib import Path

import pytest

from raymlops import registry
from raymlops.errors import Conflict, DataError, SpecError
from raymlops.registry.mlflow_client import client
from raymlops.values import Version

pytest.importorskip("obstore", reason="needs obstore: pip install raymlops[cloud]")


@pytest.fixture
def made(home: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    """Registered and signed in one home; the process then goes on in another one, with the same MLflow."""
    monkeypatch.setenv("RAYMLOPS_STORE", f"{s3}/shared/")
    registry.new_key(tmp_path / "tina")
    monkeypatch.setenv("RAYMLOPS_KEY", str(tmp_path / "tina"))
    digest, path = registry.store_folder({"model.json": b"{}", "model.ubj": bytes(range(256)) * 9})
    version = registry.register("shared", digest=digest, path=path, run_id=None, tags={})
    registry.promote(str(version))
    other = tmp_path / "other"
    (other / "mlflow").mkdir(parents=True)
    shutil.copy(home / "mlflow" / "mlflow.db", other / "mlflow" / "mlflow.db")
    shutil.rmtree(home / "models")
    monkeypatch.setenv("RAYMLOPS_HOME", str(other))
    client()
    return version


def put(s3: str, place: str, content: bytes) -> None:
    import obstore

    from raymlops.data.stores import open_store

    obstore.put(open_store(f"{s3}/shared"), place, content)


def test_another_home_fetches_the_version_and_its_signature(made: Version, tmp_path: Path) -> None:
    found = registry.resolve("shared")
    assert found.digest == made.digest
    assert found.path == tmp_path / "other" / "models" / made.digest
    assert (found.path / "model.ubj").read_bytes() == bytes(range(256)) * 9
    assert (tmp_path / "other" / "signatures" / "shared" / f"{made.digest}.json").is_file()
    registry.check_loaded(found)
    assert registry.resolve("shared").path == found.path


@pytest.mark.parametrize("name", ["model.ubj", "one_more.bin", "deep/file"])
def test_what_was_changed_in_the_store_is_refused_and_not_kept(
    made: Version, s3: str, tmp_path: Path, name: str
) -> None:
    put(s3, f"models/{made.digest}/{name}", b"other")
    with pytest.raises(Conflict):
        registry.resolve("shared")
    assert not [*(tmp_path / "other" / "models").iterdir()]


def test_a_version_that_is_not_in_the_store_is_named(made: Version, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS_STORE", f"{s3}/empty")
    with pytest.raises(DataError, match=r"holds nothing; share the version"):
        registry.resolve("shared")
    monkeypatch.setenv("RAYMLOPS_STORE", "/a/folder")
    with pytest.raises(SpecError, match="s3://BUCKET/PATH"):
        registry.resolve("shared")


def test_without_a_store_a_missing_folder_is_said_as_ever(made: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYMLOPS_STORE")
    with pytest.raises(Conflict, match="holds nothing"):
        registry.resolve("shared")
