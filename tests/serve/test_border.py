"""Keys in files, ports of this machine, and what a cluster that is not there is called."""

import os
import socket
from pathlib import Path

import pytest

from raymlops.errors import SpecError, Unavailable
from raymlops.serve.dashboard import applications
from raymlops.serve.keys import read_keys
from raymlops.serve.listener import listener


def test_keys_are_the_lines_of_all_files_without_comments(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("# of the team\nfirst\n\n  second  \n")
    (tmp_path / "b").write_text("third\nfirst")
    assert read_keys([tmp_path / "a", tmp_path / "b"]) == {"first", "second", "third"}
    assert read_keys([]) == frozenset()


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "two words\n", "schlüssel\n"])
def test_a_file_without_a_good_key_is_refused_and_shows_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(SpecError) as caught:
        read_keys([tmp_path / "keys"])
    assert "words" not in str(caught.value)
    assert "schl" not in str(caught.value)


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="absent"):
        read_keys([tmp_path / "absent"])


def test_who_holds_a_port_is_named_and_a_free_port_has_no_holder() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        assert f"in use by pid {os.getpid()}" in (listener("127.0.0.1", port) or "")
    assert listener("127.0.0.1", port) is None


def test_a_cluster_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable, match="does not answer"):
            applications(url)
