"""A topic that is not what it was, or was not read in time, is said; what stands around a message can be a column."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from raymlops.data.sources.kafka import Kafka
from raymlops.errors import DataError, SpecError, Unavailable
from raymlops.plugins import build
from raymlops.protocols import Source


@pytest.fixture
def topic(mock_broker: str, new_topic: Any) -> Iterator[Any]:
    with new_topic(mock_broker) as made:
        yield made


def _kafka(feed: Any, **options: Any) -> Kafka:
    made: Kafka = build("raymlops.data.sources", {"kafka": {**feed.value["kafka"], **options}}, where="test")
    return made


def _read(cut: Any) -> list[dict[str, Any]]:
    source: Source = build("raymlops.data.sources", cut, where="test")
    return [row for piece in source.pieces() for table in source.read(piece) for row in table.to_pylist()]


def _lines(first: int, end: int, more: str = "") -> list[bytes]:
    return [json.dumps({"id": number, "more": more}).encode() for number in range(first, end)]


def test_messages_that_retention_removed_before_they_were_read_are_missed_aloud(
    topic: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    topic.append(_lines(0, 8))
    last = _kafka(topic).since(None)[-1]
    topic.append(_lines(8, 400, more="x" * 100_000))  # the mock keeps 5 MiB of a partition
    with pytest.raises(
        DataError, match=r"partition 0: offsets 2 to \d+ were removed before they were read; `gaps: skip`"
    ):
        _kafka(topic).since(last)
    rows = [row["id"] for cut in _kafka(topic, gaps="skip").since(last) for row in _read(cut)]
    assert "were removed before they were read, and are skipped" in capsys.readouterr().err
    assert 0 < len(rows) < 392
    assert sorted(rows)[-4:] == [396, 397, 398, 399]


def test_a_range_that_retention_removed_cannot_be_read_and_says_what_is_there(topic: Any) -> None:
    topic.append(_lines(0, 8))
    [cut] = _kafka(topic).since(None)
    topic.append(_lines(8, 400, more="x" * 100_000))
    with pytest.raises(DataError, match=r"partition 0: offsets 0 to 2 are asked for, \d+ to 100 are there"):
        _read(cut)


def test_a_range_that_is_not_there_yet_is_refused_at_once(topic: Any) -> None:
    topic.append(_lines(0, 8))
    with pytest.raises(DataError, match=r"partition 0: offsets 0 to 9 are asked for, 0 to 2 are there"):
        _read({"kafka": {**topic.value["kafka"], "begin": {"0": 0}, "end": {"0": 9}}})


def test_a_topic_that_was_made_anew_is_not_read_on(topic: Any, mock_broker: str, new_topic: Any) -> None:
    topic.append(_lines(0, 8))
    last = _kafka(topic).since(None)[-1]
    with new_topic(mock_broker) as other:
        other.append(_lines(0, 4))
        with pytest.raises(
            DataError, match=r"is not the one that was read before \(partition 3 ends at 1, 2 were read"
        ):
            _kafka(other).since(last)
        other.append(_lines(4, 40))
        with pytest.raises(DataError, match=r"partition 3 has another message at offset 1\).* another `group`"):
            _kafka(other).since(last)
    assert _kafka(topic, group="again").identity() != _kafka(topic).identity()


def test_a_first_read_begins_where_the_spec_says(topic: Any) -> None:
    topic.append(_lines(0, 8))
    [anchor] = _kafka(topic, start="latest").since(None)
    assert _read(anchor) == [], "it only says where the topic ended"
    topic.append(_lines(8, 12))
    [later] = _kafka(topic, start="latest").since(anchor)
    assert sorted(row["id"] for row in _read(later)) == [8, 9, 10, 11]
    with pytest.raises(SpecError, match="start: 'noon' given; earliest, latest or a date or time is allowed"):
        _kafka(topic, start="noon")


def test_a_first_read_can_begin_at_a_moment(tansu: str, new_topic: Any) -> None:
    # The mock cluster answers such a question with the end, whatever the moment, and Tansu with the beginning.
    with new_topic(tansu) as topic:
        topic.append(_lines(0, 8))
        [cut] = _kafka(topic, start="2001-01-01").since(None)
        assert len(_read(cut)) == 8


def test_what_stands_around_a_message_is_a_column_if_it_is_asked_for(topic: Any) -> None:
    topic.append([b'{"id": 1, "at": 5}', b"none"])
    [cut] = _kafka(topic, envelope={"offset": "at", "partition": "part", "key": "key", "timestamp": "when"}).since(None)
    first, second = _read(cut)
    assert (first["id"], first["at"], first["part"], first["key"]) == (1, 0, 0, "0")
    assert first["when"].year > 2000
    assert (second["id"], second["part"]) == (None, 1)
    assert second["_unreadable"].startswith("offset 0: is not JSON")


def test_types_are_inferred_once_and_kept(topic: Any) -> None:
    topic.append([b'{"id": 1, "x": 1.5}'])
    [first] = _kafka(topic).since(None)
    topic.append([b'{"id": "two", "y": true}'])
    [second] = _kafka(topic).since(first)
    source = build("raymlops.data.sources", second, where="test")
    assert source.schema() == pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.bool_())])
    assert "column 'id' must be int64, 'two' given" in _read(second)[0]["_unreadable"]


def test_a_broker_or_topic_that_is_not_there_and_a_wrong_property_are_said(mock_broker: str) -> None:
    with pytest.raises(Unavailable, match=r"topic t: .*(timed out|transport failure)"):
        Kafka(brokers="127.0.0.1:1", topic="t", timeout_s=0.2).since(None)
    with pytest.raises(DataError, match=r"topic absent: .*Unknown topic"):
        Kafka(brokers=mock_broker, topic="absent").since(None)
    with pytest.raises(SpecError, match=r'client: No such configuration property: "sasl\.user"'):
        Kafka(brokers=mock_broker, topic="t", client={"sasl.user": "me"}).since(None)


def test_a_secret_stands_in_a_variable_and_nowhere_else(topic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    topic.append(_lines(0, 4))
    with pytest.raises(SpecError, match=r"client.sasl.password: a secret is written out; give it as \$\{VARIABLE\}"):
        _kafka(topic, client={"sasl.password": "hush"})
    client = {"sasl.username": "me", "sasl.password": "${HUSH_HUSH}"}
    with pytest.raises(SpecError, match=r"client.sasl.password: '\$\{HUSH_HUSH\}' names a variable that is not set"):
        _kafka(topic, client=client).since(None)
    monkeypatch.setenv("HUSH_HUSH", "open sesame")
    cuts = _kafka(topic, client=client).since(None)
    assert len(_read(cuts[0])) == 4
    assert "sesame" not in str(cuts)
