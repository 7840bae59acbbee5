"""The rules of the house that no linter keeps: sizes, words, imports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "raymlops"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "jobs").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = ("train", "optimize", "score", "serve", "monitor")
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "shared", "lib"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=_name)
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_function_is_over_60_lines(path: Path) -> None:
    assert {function.name: _length(function) for function in _functions(path) if _length(function) > 60} == {}


def test_almost_no_function_is_over_40_lines() -> None:
    lengths = [_length(function) for path in SOURCES for function in _functions(path)]
    assert sum(length > 40 for length in lengths) <= 0.02 * len(lengths)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert not FORBIDDEN & {*path.relative_to(PACKAGE).with_suffix("").parts}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=_name)
def test_a_room_s_face_only_re_exports_and_sorts_its_names(path: Path) -> None:
    if path.parent == PACKAGE:
        return
    tree = ast.parse(path.read_text())
    for node in tree.body[1:]:
        assert isinstance(node, ast.ImportFrom | ast.Assign), ast.dump(node)
    names = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert all(found == sorted(found) for found in names)


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_stands_in_six_places(stage: str) -> None:
    assert any(f"class {stage.title()}Spec(" in path.read_text() for path in (PACKAGE / "spec").glob("*.py"))
    assert f"    {stage}: {stage.title()}Spec" in (PACKAGE / "spec" / "sections.py").read_text()
    assert (PACKAGE / stage / "__init__.py").exists()
    assert (ROOT / "jobs" / f"{stage}.py").exists()
    assert list((ROOT / "tests" / stage).glob("test_*.py"))
    assert (ROOT / "benchmarks" / f"{stage}.py").exists()


def test_ray_is_imported_only_where_work_is_spread() -> None:
    importers = {
        _name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "ray" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray")
    }
    assert {Path(name).name for name in importers} == {"on_ray.py"}
    assert all(len((ROOT / name).read_text().splitlines()) <= 260 for name in importers)


def test_importing_the_package_is_light_and_quick() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import raymlops; seconds = time.perf_counter() - start;"
        "import json; print(json.dumps([seconds, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    runs = [json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
            for _ in range(3)]  # fmt: skip
    assert min(seconds for seconds, _ in runs) < 0.150
    assert not {"ray", "torch", "mlflow", "xgboost", "onnx", "onnxruntime", "pandas"} & set(runs[0][1])


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_heavy_is_imported_when_a_module_is(path: Path) -> None:
    if path.name == "on_ray.py":
        return
    heavy = {"ray", "torch", "mlflow", "xgboost", "onnx", "onnxruntime", "onnxmltools", "matplotlib", "sklearn"}
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {name.name.split(".")[0] for node in top if isinstance(node, ast.Import) for name in node.names}
    found |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    assert not heavy & found


def test_every_public_name_of_the_package_is_there() -> None:
    import raymlops

    assert sorted(raymlops.__all__) == raymlops.__all__
    assert all(hasattr(raymlops, name) for name in raymlops.__all__)


def test_a_kind_is_one_file_with_one_class() -> None:
    from raymlops.plugins import kind_names, kind_of

    folders = ("data.sources", "train.trainers", "engine.engines", "engine.formats", "monitor.drift_tests")
    for folder in folders:
        names = kind_names(f"raymlops.{folder}")
        assert len(names) >= 2, f"{folder}: a joint needs two kinds"
        assert all(kind_of(f"raymlops.{folder}", name, where=folder) for name in names)


def test_nothing_in_the_tree_speaks_of_how_it_was_made() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = ("/work/", "/root/", "artifactory", "ray stop")
    own = {"tests/house/test_house.py"}
    found = [
        f"{name}: {word}"
        for name in listed
        if name not in own and not name.endswith((".png", ".json"))
        for word in words
        if word in (ROOT / name).read_text(errors="ignore")
    ]
    assert [line for line in found if not line.endswith("ray stop")] == []
    assert {line.split(":")[0] for line in found} <= {
        "ARCHITECTURE.md",
        "cluster/README.md",
        "raymlops/cluster/local.py",
        "tests/cluster/test_launcher_files.py",
    }
