"""The journal says who moved what, when and why; an edit, a cut and a move behind its back are seen."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from raymlops import registry
from raymlops.errors import Conflict
from raymlops.registry import journal
from raymlops.registry.mlflow_client import client
from raymlops.values import Version


def made(name: str, content: bytes) -> Version:
    digest, path = registry.store_folder({"model.json": content})
    return registry.register(name, digest=digest, path=path, run_id=None, tags={"trainer": "test"})


@pytest.fixture
def moved(home: Path) -> Path:
    """Two versions, promoted in turn, and rolled back; the journal's file."""
    for content in (b"1", b"2"):
        version = made("moved", content)
        registry.promote(str(version), why=f"better than {version.number - 1}", evidence={"auc": 0.7})
    registry.rollback("moved", why="it was not")
    return home / "journal" / "moved.jsonl"


def test_every_registration_and_every_move_stands_with_its_reason(moved: Path) -> None:
    entries = registry.history("moved")
    assert [(one.what, one.alias, one.before, one.version) for one in entries] == [
        ("registered", "", None, 1),
        ("alias", "champion", None, 1),
        ("registered", "", None, 2),
        ("alias", "previous", None, 1),
        ("alias", "champion", 1, 2),
        ("alias", "previous", 1, 2),
        ("alias", "champion", 2, 1),
    ]
    assert (entries[4].why, entries[4].evidence) == ("better than 1", {"auc": 0.7})
    assert entries[-1].why == "it was not"
    assert entries[0].evidence["trainer"] == "test"
    assert all("@" in one.who for one in entries)
    registry.check_aliases("moved")


def test_what_was_in_production_then_can_be_asked(moved: Path) -> None:
    entries = registry.history("moved")
    moment = datetime.fromisoformat(entries[-2].time)
    assert registry.aliases_at(registry.history("moved", until=moment))["champion"] == 2
    assert registry.aliases_at(registry.history("moved", until=datetime(2000, 1, 1, tzinfo=UTC))) == {}
    assert registry.aliases_at(entries) == {"champion": 1, "previous": 2}


@pytest.mark.parametrize("line", range(7))
def test_an_edit_of_any_line_is_seen(moved: Path, line: int) -> None:
    lines = moved.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[line])
    lines[line] = json.dumps({**value, "who": "somebody@else"}).encode() + b"\n"
    moved.write_bytes(b"".join(lines))
    with pytest.raises(Conflict, match=rf"line {line + 1}: was changed after it was written"):
        registry.history("moved")


@pytest.mark.parametrize(("kept", "said"), [(slice(1, None), "does not follow"), (slice(0, 5), "lines at its end")])
def test_a_cut_is_seen_also_at_the_end(moved: Path, kept: slice, said: str) -> None:
    moved.write_bytes(b"".join(moved.read_bytes().splitlines(keepends=True)[kept]))
    with pytest.raises(Conflict, match=said):
        registry.history("moved")


def test_a_journal_that_is_gone_is_seen(moved: Path) -> None:
    moved.unlink()
    with pytest.raises(Conflict, match="had 7 lines and has 0"):
        registry.check_aliases("moved")


def test_a_move_behind_its_back_is_seen_and_mended_by_moving_again(moved: Path) -> None:
    client().set_registered_model_alias("moved", "champion", "2")
    with pytest.raises(Conflict, match="champion is 2, the journal has 1"):
        registry.check_aliases("moved")
    registry.promote("moved@1", why="mended")
    registry.check_aliases("moved")


def test_half_a_line_that_a_crash_left_is_no_line(moved: Path) -> None:
    with moved.open("ab") as file:
        file.write(b'{"number": 8, "time"')
    registry.promote("moved@2")
    entries = registry.history("moved")
    assert [one.number for one in entries] == list(range(1, 10))
    registry.check_aliases("moved")


def test_a_model_that_is_older_than_the_journal_begins_it_with_where_its_aliases_stand(moved: Path) -> None:
    moved.unlink()
    client().delete_registered_model_tag("moved", "raymlops.journal")
    made("moved", b"3")
    entries = registry.history("moved")
    assert {one.alias: one.version for one in entries if one.what == "alias"} == {"champion": 1, "previous": 2}
    registry.check_aliases("moved")


MANY = """
import sys
from raymlops import registry
from raymlops.errors import Conflict
won = 0
for turn in range(int(sys.argv[1])):
    champion = registry.resolve("race")
    other = 2 if champion.number == 1 else 1
    try:
        registry.promote(f"race@{other}", expected=str(champion), why=f"turn {turn}")
        won += 1
    except Conflict:
        pass
print(won)
"""


def test_processes_that_promote_at_once_make_one_line_after_another(home: Path) -> None:
    for content in (b"1", b"2"):
        made("race", content)
    registry.promote("race@1")
    before = len(registry.history("race"))
    running = [
        subprocess.Popen([sys.executable, "-c", MANY, "10"], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    won = sum(int(process.communicate(timeout=120)[0]) for process in running)
    moves = [one for one in registry.history("race")[before:] if one.alias == "champion"]
    assert len(moves) == won
    assert won >= 10
    assert all(after.before == one.version for one, after in pairwise(moves))
    registry.check_aliases("race")


def test_numbers_and_hashes_are_those_of_the_lines(moved: Path) -> None:
    last = journal.read("moved")[-1]
    kept = client().get_registered_model("moved").tags["raymlops.journal"]
    assert kept == journal.tip(last) == f"7:{last.hash}"
