"""Where a version was made is written down whole, and a sweep that asks for it starts from a commit only."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from raymlops import registry
from raymlops.errors import Conflict, SpecError
from raymlops.registry.origin import read_origin


def git(*words: str) -> None:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *named, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RAYMLOPS_HOME", str(folder / ".raymlops"))
    git("init", "--quiet")
    (folder / "spec.yaml").write_text("name: a\n")
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    return folder


def test_a_commit_without_changes_is_clean_also_where_the_home_lies_in_it(repository: Path) -> None:
    (repository / ".raymlops" / "models").mkdir(parents=True)
    (repository / ".raymlops" / "models" / "x").write_text("x")
    found = registry.origin()
    assert (found.diff, found.untracked) == ("", ())
    assert found.commit is not None
    assert len(found.commit) == 40
    registry.check_clean(found, where="registry.protected")


@pytest.mark.parametrize("change", ["edit", "binary", "delete", "add", "stage"])
def test_whatever_is_not_in_the_commit_is_named(repository: Path, change: str) -> None:
    name = {"binary": "weights.bin", "add": "new file.py"}.get(change, "spec.yaml")
    if change == "delete":
        (repository / name).unlink()
    else:
        (repository / name).write_bytes(b"\0changed\n")
    if change == "stage":
        git("add", "--all")
    with pytest.raises(SpecError, match=f"registry.protected: true, but 1 files are not as in commit .*: {name};"):
        registry.check_clean(registry.origin(), where="registry.protected")


def test_the_changes_are_kept_as_a_patch_that_git_takes(repository: Path) -> None:
    (repository / "spec.yaml").write_text("name: b\n")
    (repository / "weights.bin").write_bytes(b"\xff\xfe\0")
    kept = read_origin(registry.keep_origin(registry.origin()))
    git("checkout", "--quiet", ".")
    (repository / ".raymlops" / "patch").write_text(kept.diff)
    git("apply", ".raymlops/patch")
    assert (repository / "spec.yaml").read_text() == "name: b\n"
    assert (repository / "weights.bin").read_bytes() == b"\xff\xfe\0"


def test_text_that_is_no_utf_8_is_kept_readable(repository: Path) -> None:
    (repository / "spec.yaml").write_bytes("name: caf\u00e9\n".encode("latin-1"))
    kept = read_origin(registry.keep_origin(registry.origin()))
    assert "+name: caf\\xe9" in kept.diff


def test_outside_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = registry.origin()
    assert found.commit is None
    with pytest.raises(SpecError, match="is no repository of git"):
        registry.check_clean(found, where="registry.protected")


def test_what_was_kept_is_the_same_and_no_byte_of_it_changes(home: Path) -> None:
    found = replace(registry.origin(), gpus=("GPU 0: A", "GPU 1: B"))
    name = registry.keep_origin(found)
    assert registry.keep_origin(found) == name
    assert read_origin(name) == found
    assert any(package.startswith("numpy==") for package in found.packages)
    path = home / "origins" / f"{name}.json"
    path.write_bytes(path.read_bytes().replace(b"GPU 1", b"GPU 2"))
    with pytest.raises(Conflict, match="was changed after it was written"):
        read_origin(name)


def test_the_origin_of_a_version_stands_in_its_registration(home: Path) -> None:
    found = registry.origin()
    digest, path = registry.store_folder({"model.json": b"1"})
    version = registry.register(
        "made", digest=digest, path=path, run_id=None, tags={"origin": registry.keep_origin(found)}
    )
    assert registry.origin_of(version) == found
    (home / "origins" / f"{registry.keep_origin(found)}.json").write_bytes(b"{}")
    with pytest.raises(Conflict):
        registry.origin_of(version)
