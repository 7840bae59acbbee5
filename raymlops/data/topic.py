"""A topic of a Kafka-protocol broker, read by offsets through librdkafka. Knows nothing of rows or of what was read.

No consumer group is joined and no offset is stored on the broker.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from raymlops.errors import DataError, MissingExtra, SpecError, Unavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["Topic", "opened"]

_AT_ONCE = 1_000
_WAIT_S = 0.5
_QUEUED_KIB = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """An open topic; `cluster` and `partitions` as its broker says. Every verb raises Unavailable after `timeout_s`."""

    name: str
    cluster: str
    partitions: tuple[int, ...]
    consumer: "Consumer"
    timeout_s: float

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the earliest offset that is there, and the one that the next message gets."""
        from confluent_kafka import TopicPartition

        with _heard(self.name):
            low, high = self.consumer.get_watermark_offsets(TopicPartition(self.name, partition), self.timeout_s)
        return max(low, 0), max(high, 0)

    def at_time(self, partition: int, milliseconds: int) -> int | None:
        """Return the first offset that has at least this timestamp, since 1970; None if there is none yet."""
        from confluent_kafka import TopicPartition

        with _heard(self.name):
            asked = [TopicPartition(self.name, partition, milliseconds)]
            offset: int = self.consumer.offsets_for_times(asked, self.timeout_s)[0].offset
        return offset if offset >= 0 else None

    def read(self, partition: int, begin: int, end: int) -> Iterator[list["Message"]]:
        """Yield the messages with offsets in [begin, end), some at a time; offsets may have gaps (transactions).

        Raise DataError when the first of them, or the last, are not there.
        """
        from confluent_kafka import TopicPartition

        low, high = self.bounds(partition)
        if begin < low or end > high:
            raise self._gone(partition, begin, end)
        self.consumer.assign([TopicPartition(self.name, partition, begin)])
        at, until, cause = begin, monotonic() + self.timeout_s, ""
        while at < end:
            heard = self.consumer.consume(min(_AT_ONCE, end - at), _WAIT_S)
            found = [message for message in heard if message.error() is None]
            for other in (message for message in heard if message.error() is not None):
                at, cause = self._after(other, partition, at, begin, end)
            if found:
                cause = ""
                at = max(at, 1 + (found[-1].offset() or 0))
                yield [message for message in found if (message.offset() or 0) < end]
            if heard and not cause:
                until = monotonic() + self.timeout_s
            if monotonic() > until:
                raise Unavailable(
                    f"topic {self.name}, partition {partition}: no answer in {self.timeout_s:g} s {cause}"
                )

    def _after(self, other: "Message", partition: int, at: int, begin: int, end: int) -> tuple[int, str]:
        """Return where reading stands after what is no message, and what went wrong if it is tried on."""
        from confluent_kafka import KafkaError

        error = other.error()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            # The last offsets of the range may be no messages. A new leader may for a while know less than the old one.
            ends = other.offset() or 0
            return (max(at, end), "") if ends >= end else (at, f"(it ends at {ends}, {end} was its end before)")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise self._gone(partition, begin, end)
        return at, f"({error.str()})"

    def _gone(self, partition: int, begin: int, end: int) -> DataError:
        low, high = self.bounds(partition)
        return DataError(
            f"topic {self.name}, partition {partition}: offsets {begin} to {end} are asked for, {low} to {high} are "
            "there; retention removed them, or the topic was made anew"
        )


@contextmanager
def opened(name: str, *, brokers: str, client: Mapping[str, str], timeout_s: float) -> Iterator[Topic]:
    """Open a topic for reading; `client` are further properties of librdkafka.

    Raise Unavailable when no broker answers, DataError when the topic is not there.
    """
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError as error:
        raise MissingExtra("source kafka needs `pip install raymlops[stream]`") from error
    properties: dict[str, Any] = {
        "log_level": 2,
        "queued.max.messages.kbytes": _QUEUED_KIB,
        "fetch.wait.max.ms": 10,  # nothing is waited for: only what is there is read
        **client,
        "bootstrap.servers": brokers,
        "group.id": "raymlops",  # librdkafka asks for one; it is not joined
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }
    try:
        consumer = Consumer(properties)
    except KafkaException as error:
        raise SpecError(f"source kafka: client: {error.args[0].str()}") from error
    try:
        with _heard(name):
            told = consumer.list_topics(name, timeout_s)
        found = told.topics[name]
        if found.error is not None:
            raise DataError(f"topic {name}: {found.error.str()}")
        yield Topic(
            name=name,
            cluster=told.cluster_id or "",
            partitions=tuple(sorted(found.partitions)),
            consumer=consumer,
            timeout_s=timeout_s,
        )
    finally:
        consumer.close()


@contextmanager
def _heard(name: str) -> Iterator[None]:
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise Unavailable(f"topic {name}: {error.args[0].str()}") from error
