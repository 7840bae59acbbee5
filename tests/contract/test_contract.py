"""The contract: inferred from rows, overridden by the spec, the one judge of a value."""

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.codec import dumps
from raymlops.contract import Contract, answers, encode, encode_label, infer, schema_problems
from raymlops.errors import DataError
from raymlops.spec import FeatureSpec

ROWS = pa.table({
    "age": [30, 41, None], "city": ["Rome", "Oslo", "Rome"], "size": [1.5, float("nan"), 2.0],
    "member": [True, False, True], "y": [0, 1, 0],
})  # fmt: skip
FEATURES = ("age", "city", "size", "member")


def _contract(**overrides: FeatureSpec) -> Contract:
    return infer(ROWS, features=FEATURES, label="y", overrides=overrides)


def _columns(**changed: pa.Array) -> dict[str, pa.Array]:
    good = {"age": pa.array([30]), "city": pa.array(["Rome"]), "size": pa.array([1.0]), "member": pa.array([True])}
    return good | changed


def test_types_ranges_categories_and_nulls_are_inferred() -> None:
    age, city, size, member = _contract().features
    assert (age.type, age.nullable, age.observed) == ("integer", True, (30.0, 41.0))
    assert (city.type, city.nullable, city.categories) == ("category", False, ("Oslo", "Rome"))
    assert (size.type, size.nullable) == ("number", True)
    assert (member.type, member.nullable) == ("boolean", False)


def test_a_contract_survives_json() -> None:
    contract = _contract(age=FeatureSpec(min=0, max=120))
    assert Contract.from_json(orjson.loads(dumps(contract.to_json()))) == contract


def test_rows_become_floats_in_the_order_of_the_features() -> None:
    encoded = encode(_contract(), {name: ROWS.column(name) for name in FEATURES})
    assert encoded.ok.all()
    np.testing.assert_array_equal(
        encoded.x, np.array([[30, 1, 1.5, 1], [41, 0, np.nan, 0], [np.nan, 1, 2.0, 1]], np.float32)
    )


@pytest.mark.parametrize(
    ("changed", "column", "rule"),
    [
        ({"age": pa.array([150])}, "age", "must be at most 120"),
        ({"age": pa.array([-1])}, "age", "must be at least 0"),
        ({"age": pa.array([30.5])}, "age", "must be a whole number"),
        ({"size": pa.array([float("inf")])}, "size", "must be finite"),
        ({"city": pa.array(["Bonn"])}, "city", "must be one of Oslo, Rome"),
        ({"city": pa.array([None], pa.string())}, "city", "must not be missing"),
        ({"member": pa.array([2])}, "member", "must be true or false"),
        ({"member": pa.array([None], pa.bool_())}, "member", "must not be missing"),
    ],
    ids=["over", "under", "fraction", "infinite", "category", "null text", "number as boolean", "null boolean"],
)
def test_a_value_that_breaks_a_rule_is_named(changed: dict[str, pa.Array], column: str, rule: str) -> None:
    encoded = encode(_contract(age=FeatureSpec(min=0, max=120)), _columns(**changed))
    assert not encoded.ok[0]
    assert [(v.row, v.column, v.rule) for v in encoded.violations] == [(0, column, rule)]


def test_values_outside_the_training_range_are_not_errors() -> None:
    assert encode(_contract(), _columns(age=pa.array([99]))).ok.all()


def test_minus_one_is_a_number_and_not_an_unknown_category() -> None:
    encoded = encode(_contract(), _columns(age=pa.array([-1]), size=pa.array([-1.0])))
    assert encoded.ok.all()
    assert encoded.x[0, [0, 2]].tolist() == [-1.0, -1.0]


def test_an_unknown_category_is_missing_where_the_spec_says_so() -> None:
    encoded = encode(_contract(city=FeatureSpec(unknown="missing")), _columns(city=pa.array(["Bonn"])))
    assert encoded.ok.all()
    assert np.isnan(encoded.x[0, 1])


def test_every_missing_column_and_wrong_type_is_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        encode(_contract(), {"age": pa.array(["thirty"]), "city": pa.array(["Rome"]), "size": pa.array([1.0])})
    assert caught.value.problems == (
        "column 'member': is missing; the model needs age, city, size, member",
        "column 'age': type string given, integer needed",
    )


def test_a_schema_is_judged_before_a_row_is_read() -> None:
    schema = pa.schema([("age", pa.string()), ("citty", pa.string()), ("size", pa.int8()), ("member", pa.bool_())])
    assert schema_problems(_contract(), schema) == [
        "column 'age': type string given, integer needed",
        "column 'city': is missing; did you mean 'citty'?",
    ]


def test_categories_of_whole_numbers_are_the_same_text_from_integers_and_floats() -> None:
    rows = pa.table({"code": pa.array([3, 7, 3]), "y": [0, 1, 0]})
    contract = infer(rows, features=["code"], label="y", overrides={"code": FeatureSpec(type="category")})
    assert contract.features[0].categories == ("3", "7")
    assert encode(contract, {"code": pa.array([7.0, 3.0])}).x[:, 0].tolist() == [1.0, 0.0]


def test_a_huge_or_infinite_code_is_an_unknown_category() -> None:
    rows = pa.table({"code": pa.array([3, 7, 3]), "y": [0, 1, 0]})
    contract = infer(rows, features=["code"], label="y", overrides={"code": FeatureSpec(type="category")})
    encoded = encode(contract, {"code": pa.array([float("inf"), 1e300, 7.0])})
    assert [(v.row, v.value) for v in encoded.violations] == [(0, "inf"), (1, "1e+300")]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0, 1, 1], "binary", ("0", "1")),
        ([True, False, None], "binary", ("false", "true")),
        (["b", "a", "c"], "multiclass", ("a", "b", "c")),
        ([1, 2, 10], "multiclass", ("1", "2", "10")),
        ([0.5, 1.5, 2.5], "regression", ()),
        (list(range(50)), "regression", ()),
    ],
    ids=["integers", "booleans", "texts", "few integers", "numbers", "many integers"],
)
def test_the_task_follows_from_the_label(values: list[object], task: str, classes: tuple[str, ...]) -> None:
    rows = pa.table({"x": [1.0] * len(values), "y": values})
    label = infer(rows, features=["x"], label="y").label
    assert (label.task, label.classes) == (task, classes)


def test_a_label_with_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="fewer than 2 different ones"):
        infer(pa.table({"x": [1.0, 2.0], "y": [1, 1]}), features=["x"], label="y")


def test_a_missing_label_is_nan_and_an_unknown_class_is_refused() -> None:
    label = _contract().label
    assert np.isnan(encode_label(label, pa.array([0, None]))[1])
    with pytest.raises(DataError, match="unknown class 2"):
        encode_label(label, pa.array([2]))


def test_a_column_named_in_the_spec_but_not_in_the_data_is_suggested() -> None:
    with pytest.raises(DataError, match="did you mean 'city'"):
        infer(ROWS, features=["citi"], label="y")


@given(st.data())
def test_the_contract_of_parts_is_that_of_the_whole(data: st.DataObject) -> None:
    rows = data.draw(st.integers(2, 12))
    columns = {
        "number": pa.array(data.draw(_column(st.floats(allow_nan=False), rows)), pa.float64()),
        "whole": pa.array(data.draw(_column(st.integers(-9, 9), rows)), pa.int64()),
        "text": pa.array(data.draw(_column(st.sampled_from("abc"), rows)), pa.string()),
        "flag": pa.array(data.draw(_column(st.booleans(), rows)), pa.bool_()),
        "y": pa.array([0, 1, *data.draw(_column(st.integers(0, 1), rows - 2))], pa.int64()),
    }
    whole = pa.table(columns)
    cut = data.draw(st.integers(0, rows))
    parts = [whole.slice(0, cut), whole.slice(cut)]
    names = ["number", "whole", "text", "flag"]
    assert infer(iter(parts), features=names, label="y") == infer(whole, features=names, label="y")


def _column(values: st.SearchStrategy[object], rows: int) -> st.SearchStrategy[list[object]]:
    return st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows)


def test_a_part_without_a_value_says_nothing_of_a_column_and_two_types_are_refused() -> None:
    there, empty = pa.table({"x": ["a", "b"], "y": [0, 1]}), pa.table({"x": pa.nulls(1), "y": [0]})
    for parts in ([there, empty], [empty, there]):
        (feature,) = infer(iter(parts), features=["x"], label="y").features
        assert (feature.type, feature.categories, feature.nullable) == ("category", ("a", "b"), True)
    other = pa.table({"x": [1.5], "y": [0]})
    with pytest.raises(DataError, match="column 'x': is category in some rows and number in others; name its type"):
        infer(iter([there, other]), features=["x"], label="y")


def test_categories_are_counted_over_all_parts() -> None:
    parts = [pa.table({"x": [f"{i}-{j}" for j in range(600)], "y": [i] * 600}) for i in (0, 1)]
    with pytest.raises(DataError, match="column 'x': 1200 categories, at most 1000 are allowed"):
        infer(iter(parts), features=["x"], label="y")


def test_multiclass_answers_name_the_likeliest_class() -> None:
    label = infer(pa.table({"x": [1, 2, 3], "y": ["a", "b", "c"]}), features=["x"], label="y").label
    named = answers(label, np.array([[0.2, 0.5, 0.3]], np.float32))
    assert named["prediction"].tolist() == ["b"]
    assert list(named) == ["prediction", "probability_a", "probability_b", "probability_c"]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats()), min_size=1, max_size=30))
def test_every_number_is_encoded_or_named(values: list[float | None]) -> None:
    column = pa.array([None if v is None else float(v) for v in values], pa.float64())
    contract = infer(pa.table({"x": [1.0, None], "y": [0, 1]}), features=["x"], label="y")
    encoded = encode(contract, {"x": column})
    assert {v.row for v in encoded.violations} == set(np.flatnonzero(~encoded.ok).tolist())
    assert not np.isinf(encoded.x[encoded.ok]).any()
