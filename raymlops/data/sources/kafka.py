"""A topic of a Kafka-protocol broker, whose messages are JSON objects. A piece is a range of offsets of one partition.

What was read is remembered with what was made of it, not by a consumer group: `since` goes on where an earlier source
ended. Retention must be longer than the time between two reads, and the topic not compacted: a message that was
removed cannot be read again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from raymlops.codec import digest
from raymlops.data.messages import infer_columns, schema_of, to_rows
from raymlops.data.topic import Topic, opened
from raymlops.errors import DataError, SpecError
from raymlops.plugins import build
from raymlops.spec import expand
from raymlops.telemetry import say
from raymlops.values import JsonValue, Piece

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from confluent_kafka import Message

__all__ = ["Kafka"]

_OFFSETS_OF_A_PIECE = 1 << 17
_BYTES_AT_ONCE = 8 << 20
_ROWS_AT_ONCE = 1 << 14
_SAMPLED = 1_000  # messages of a partition from which types are inferred

_ENVELOPE: dict[str, tuple[pa.DataType, "Callable[[Message], object]"]] = {
    "key": (pa.string(), lambda message: _text(message.key())),
    "partition": (pa.int64(), lambda message: message.partition()),
    "offset": (pa.int64(), lambda message: message.offset()),
    "timestamp": (pa.timestamp("ms", "UTC"), lambda message: message.timestamp()[1]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """`brokers`: HOST:PORT,…; `topic`; `start`: where a first read begins, earliest, latest or a date or time (UTC).

    `columns`: name and Arrow type of the columns, else inferred from the newest messages, and then kept; `envelope`:
    columns for a message's key, partition, offset or timestamp, as {offset: NAME}; `max_rows`: offsets that one source
    of `since` holds at most; `group`: another name reads the topic from its start again; `gaps`: fail, or skip where
    messages were removed before they were read; `client`: properties of librdkafka, such as security.protocol,
    `${VARIABLES}` filled in; `timeout_s`: longest silence of the brokers.

    `begin` and `end` (offsets by partition) cut the topic, `cluster` and `witness` tell it from another of its name;
    `since` gives them.
    """

    brokers: str
    topic: str
    start: str = "earliest"
    columns: dict[str, str] | None = None
    envelope: dict[Literal["key", "partition", "offset", "timestamp"], str] = field(default_factory=dict)
    max_rows: int | None = None
    group: str = ""
    gaps: Literal["fail", "skip"] = "fail"
    client: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0
    begin: dict[str, int] | None = None
    end: dict[str, int] | None = None
    witness: dict[str, tuple[int, str]] = field(default_factory=dict)
    cluster: str = ""

    def __post_init__(self) -> None:
        schema_of(self.columns or {}, where="columns")
        problems = [
            f"client.{name}: a secret is written out; give it as ${{VARIABLE}}"
            for name, value in self.client.items()
            if any(word in name for word in ("password", "secret", "key.pem", "oauthbearer.config"))
            and "$" not in value
        ]
        if self.max_rows is not None and self.max_rows < 1:
            problems.append(f"max_rows: {self.max_rows} given, at least 1 is allowed")
        if self.start not in ("earliest", "latest") and _milliseconds(self.start) is None:
            problems.append(f"start: {self.start!r} given; earliest, latest or a date or time is allowed")
        if problems:
            raise SpecError(*problems)

    def identity(self) -> str:
        """Return the topic and the group; brokers may move."""
        return f"kafka {self.topic} {self.group}"

    def since(self, last: JsonValue | None) -> Sequence[JsonValue]:
        """Return the topic cut into ranges that hold at most `max_rows` offsets, over all partitions alike.

        Raise DataError when the topic is not the one that was read, or, unless `gaps` is skip, when messages were
        removed before they were read.
        """
        before = _cut_of(last)
        with self._opened() as topic:
            there = _there(topic)
            if before is None:
                begin = {name: self._first(topic, name, low) for name, (low, _) in there.items()}
            else:
                _same(topic, before, there)
                begin = self._next(before, there)
            last_of = self.end or {}
            end = {name: max(begin[name], min(high, last_of.get(name, high))) for name, (_, high) in there.items()}
            if begin == end and (before is not None or self.start != "latest"):
                return []
            sampled = 1 if self.columns else _SAMPLED
            newest = {name: _newest(topic, name, low, end[name], sampled) for name, (low, _) in there.items()}
        columns = self.columns or {**_inferred(newest), **((before.columns if before else None) or {})}
        cut = replace(self, columns=columns, cluster=topic.cluster, witness=before.witness if before else {})
        made = [replace(cut, begin=one, end=other) for one, other in _shares(begin, end, self.max_rows)]
        made[-1] = replace(made[-1], witness={name: _witness(found[-1]) for name, found in newest.items() if found})
        return [{"kafka": asdict(one)} for one in made]

    def schema(self) -> pa.Schema:
        """Return the columns, and those of the envelope; a field of a message that has the name of one is not read."""
        columns = self.columns
        if columns is None:
            with self._opened() as topic:
                columns = _inferred({name: _newest(topic, name, *there) for name, there in _there(topic).items()})
        fields = schema_of(columns, where="columns")
        own = [pa.field(name, _ENVELOPE[part][0]) for part, name in self.envelope.items()]
        return pa.schema([one for one in fields if one.name not in self.envelope.values()] + own)

    def pieces(self) -> Sequence[Piece]:
        """Return pieces of at most 131,072 offsets, partition by partition, each in the order of offsets."""
        if self.begin is not None and self.end is not None:
            bounds = {name: (begin, self.end[name]) for name, begin in self.begin.items()}
        else:
            with self._opened() as topic:
                bounds = _there(topic)
        return [
            self._piece(int(name), at, min(_OFFSETS_OF_A_PIECE, end - at))
            for name, (begin, end) in sorted(bounds.items(), key=lambda item: int(item[0]))
            for at in range(begin, end, _OFFSETS_OF_A_PIECE)
        ]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the messages, at most 16,384 or some megabytes at a time."""
        partition = int(piece.source.rsplit("/", 1)[1])
        if piece != self._piece(partition, piece.part, piece.parts):
            raise DataError(f"{piece.source}: changed while it was being read; run again")
        schema = self.schema()
        names = schema.names if columns is None else [*columns]
        absent = [name for name in names if name not in schema.names]
        if absent:
            raise DataError(f"topic {self.topic}: has no column {', '.join(absent)}; it has {', '.join(schema.names)}")
        with self._opened() as topic:
            for messages in _bounded(topic.read(partition, piece.part, piece.part + piece.parts)):
                yield self._rows(messages, schema, names)

    def _rows(self, messages: Sequence["Message"], schema: pa.Schema, names: Sequence[str]) -> pa.Table:
        beside = {name: part for part, name in self.envelope.items()}
        read = pa.schema([schema.field(name) for name in names if name not in beside])
        rows = to_rows([m.value() for m in messages], [f"offset {m.offset()}" for m in messages], read)
        said = rows.column_names[len(read) :]
        for name in (name for name in names if name in beside):
            kind, value = _ENVELOPE[beside[name]]
            rows = rows.append_column(name, pa.array(map(value, messages), kind))
        return rows.select([*names, *said])

    def _piece(self, partition: int, at: int, offsets: int) -> Piece:
        made = digest([self.cluster, self.topic, partition, at, offsets])
        return Piece(source=f"{self.topic}/{partition}", part=at, parts=offsets, rows=None, fingerprint=made)

    def _first(self, topic: Topic, name: str, low: int) -> int:
        if self.begin is not None:
            return max(low, self.begin.get(name, 0))
        if self.start == "earliest":
            return low
        moment = _milliseconds(self.start)
        found = None if moment is None else topic.at_time(int(name), moment)
        return topic.bounds(int(name))[1] if found is None else found

    def _next(self, before: "Kafka", there: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        begin = {}
        for name, (low, _) in there.items():
            read = (before.end or {}).get(name, 0)  # of a partition that is new, every message
            gap = f"topic {self.topic}, partition {name}: offsets {read} to {low} were removed before they were read"
            if read < low and self.gaps == "fail":
                raise DataError(f"{gap}; `gaps: skip` goes on without them")
            if read < low:
                say(f"source kafka: {gap}, and are skipped")
            begin[name] = max(read, low)
        return begin

    def _opened(self) -> "AbstractContextManager[Topic]":
        client = {name: expand(value) for name, value in self.client.items()}
        unset = [name for name, value in client.items() if "${" in value]
        if unset:
            raise SpecError(*(f"client.{name}: {client[name]!r} names a variable that is not set" for name in unset))
        return opened(self.topic, brokers=expand(self.brokers), client=client, timeout_s=self.timeout_s)


def _cut_of(last: JsonValue | None) -> Kafka | None:
    return None if last is None else build("raymlops.data.sources", last, where="the last source")


def _there(topic: Topic) -> dict[str, tuple[int, int]]:
    return {str(number): topic.bounds(number) for number in topic.partitions}


def _newest(topic: Topic, name: str, low: int, end: int, most: int = _SAMPLED) -> list["Message"]:
    return [message for some in topic.read(int(name), max(low, end - most), end) for message in some]


def _inferred(messages: Mapping[str, Sequence["Message"]]) -> dict[str, str]:
    return infer_columns([message.value() for some in messages.values() for message in some])


def _witness(message: "Message") -> tuple[int, str]:
    """Return what tells the topic from another of its name: an offset, and a digest of the message there."""
    key, value = (None if part is None else part.hex() for part in (message.key(), message.value()))
    return message.offset() or 0, digest([message.timestamp()[1], key, value])


def _same(topic: Topic, before: Kafka, there: Mapping[str, tuple[int, int]]) -> None:
    """Raise DataError unless the topic still is the one that was read."""
    odd = "" if before.cluster == topic.cluster else f"cluster {topic.cluster}, not {before.cluster}"
    for name, end in (before.end or {}).items():
        low, high = there.get(name, (0, 0))
        if end > high:
            odd = f"partition {name} ends at {high}, {end} were read"
        offset, made = before.witness.get(name, (-1, ""))
        if low <= offset < high:
            found = [message for some in topic.read(int(name), offset, offset + 1) for message in some]
            if found and _witness(found[0]) != (offset, made):
                odd = f"partition {name} has another message at offset {offset}"
    if odd:
        raise DataError(
            f"topic {topic.name}: is not the one that was read before ({odd}); give another `group` to read this one "
            "from its start"
        )


def _shares(
    begin: Mapping[str, int], end: Mapping[str, int], most: int | None
) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """Yield ranges of at most `most` offsets that follow each other; each partition gives in proportion to its own.

    >>> [list(share) for share in _shares({"0": 0, "1": 0}, {"0": 4, "1": 2}, 3)]
    [[{'0': 0, '1': 0}, {'0': 2, '1': 1}], [{'0': 2, '1': 1}, {'0': 4, '1': 2}]]
    """
    at = dict(begin)
    while True:
        left = {name: end[name] - at[name] for name in at}
        total = sum(left.values())
        room = total if most is None else min(most, total)
        take = {name: more * room // max(total, 1) for name, more in left.items()}
        spare = room - sum(take.values())
        # What rounding leaves goes one by one to partitions that have more.
        for name in [name for name in left if left[name] > take[name]][:spare]:
            take[name] += 1
        after = {name: at[name] + take[name] for name in at}
        yield at, after
        at = after
        if at == dict(end):
            return


def _bounded(messages: Iterator[list["Message"]]) -> Iterator[list["Message"]]:
    held: list[Message] = []
    size = 0
    for some in messages:
        held += some
        size += sum(len(message) for message in some)
        if size >= _BYTES_AT_ONCE or len(held) >= _ROWS_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def _milliseconds(start: str) -> int | None:
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "backslashreplace")
