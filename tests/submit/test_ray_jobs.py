"""The job server's border: addresses, silence, strangers and tokens. No Ray is needed."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raymlops.errors import SpecError, Unavailable
from raymlops.submit import check_address
from raymlops.submit.ray_jobs import RayJob, cause_in, exit_cause, job_server

TOKENS: list[str | None] = []


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


class Stranger(BaseHTTPRequestHandler):
    """A server that is no Ray, and wants a token for some paths."""

    def do_GET(self) -> None:
        TOKENS.append(self.headers.get("Authorization"))
        self.send_response(401 if "jobs" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def stranger() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_dead_port_is_unavailable_at_once_and_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    with job_server(url) as server, pytest.raises(Unavailable, match=url) as error:
        server.probe()
    assert error.value.exit_code == 3


def test_a_server_that_takes_connections_but_never_answers_is_given_up_within_ten_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with (
            job_server(f"http://127.0.0.1:{silent.getsockname()[1]}") as server,
            pytest.raises(Unavailable, match="no Ray job server answers"),
        ):
            server.probe()
    assert time.monotonic() - begun < 10


def test_a_server_that_is_no_ray_is_told_from_one(stranger: str) -> None:
    with job_server(stranger) as server, pytest.raises(Unavailable, match="is not a Ray job server"):
        server.probe()


def test_a_refused_token_says_where_to_put_the_right_one(
    stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster-token").write_text("own\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ambient")
    TOKENS.clear()

    with job_server(stranger) as server, pytest.raises(Unavailable, match=r"refuses the token.*RAY_AUTH_TOKEN_PATH"):
        server.jobs()

    assert TOKENS == ["Bearer own", "Bearer ambient"]


@pytest.mark.parametrize(
    ("given", "name", "ambient", "outcome"),
    [
        pytest.param("http://a:8265", "RAY_ADDRESS", "http://b:8265", None, id="another server"),
        pytest.param("http://a:8265", "RAY_API_SERVER_ADDRESS", "http://a:8266", None, id="another port"),
        pytest.param("http://a:8265", "RAY_ADDRESS", "10.0.0.5:6379", None, id="a GCS elsewhere"),
        pytest.param("http://127.0.0.1:8265", "RAY_ADDRESS", "ray://10.0.0.5:10001", None, id="a Ray client elsewhere"),
        pytest.param("http://a:8265/", "RAY_ADDRESS", "http://a:8265", "http://a:8265", id="the same"),
        pytest.param("http://a:8265", "RAY_ADDRESS", "a:6379", "http://a:8265", id="a GCS of the same host"),
        pytest.param("http://a:8265", "RAY_ADDRESS", "auto", "http://a:8265", id="auto"),
        pytest.param(None, "RAY_ADDRESS", "http://b:8265", "http://b:8265", id="only ambient"),
        pytest.param(None, "RAY_ADDRESS", "b:6379", None, id="only ambient, and no job server"),
        pytest.param("a:8265", "X", "", None, id="no URL"),
        pytest.param("http://a:x", "X", "", None, id="no port"),
    ],
)
def test_an_ambient_address_never_wins_silently(
    given: str | None, name: str, ambient: str, outcome: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ambient)

    if outcome is None:
        with pytest.raises(SpecError, match=name if name != "X" else "--address"):
            check_address(given)
    else:
        assert check_address(given) == outcome


def test_without_any_address_or_cluster_it_is_said_how_to_get_one() -> None:
    with pytest.raises(Unavailable, match="raymlops up"):
        check_address(None)


def test_inside_a_ray_job_the_address_that_ray_sets_contradicts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")

    assert check_address("http://a:8265") == "http://a:8265"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed by signal 9 (SIGKILL)"),
        (137, "killed by signal 9 (SIGKILL)"),
        (7, "ended with exit code 7"),
        (None, ""),
    ],
)
def test_an_exit_code_is_told_in_words(code: int | None, words: str) -> None:
    assert exit_cause(RayJob(id="a", state="failed", exit_code=code)) == words


def test_the_last_of_two_chained_tracebacks_is_the_cause() -> None:
    log = """progress
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise ValueError("no y") from None
app.errors.Odd: no y
(worker exits)
"""
    assert cause_in(log).splitlines()[0] == "app.errors.Odd: no y"
    assert cause_in("error: spec.yaml:3: train: is missing\n") == "error: spec.yaml:3: train: is missing"
