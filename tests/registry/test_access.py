"""Who may do what: roles by key, several people for the champion, signatures that are checked at every load."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymlops import registry
from raymlops.errors import Conflict, Forbidden, RaymlopsError, SpecError
from raymlops.registry.keys import is_signed, own_key
from raymlops.values import Version

ROLES = {"tina": ["trainer"], "ada": ["approver"], "abe": ["approver"], "dora": ["deployer"], "vic": ["viewer"]}
Become = Callable[[str], None]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """A key for each person, and one of nobody's; the public halves."""
    return {name: registry.new_key(tmp_path / name) for name in (*ROLES, "eve")}


@pytest.fixture
def become(tmp_path: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Become:
    return lambda name: monkeypatch.setenv("RAYMLOPS_KEY", str(tmp_path / name))


@pytest.fixture
def rules(home: Path, keys: dict[str, str]) -> Callable[..., None]:
    """Write the access file; `people` and `aliases` take the place of what stands there usually."""

    def write(people: dict[str, Any] | None = None, aliases: dict[str, Any] | None = None) -> None:
        usual = {name: {"key": keys[name], "roles": roles} for name, roles in ROLES.items()}
        home.mkdir(parents=True, exist_ok=True)
        (home / "access.yaml").write_text(
            yaml.safe_dump({"people": {**usual, **(people or {})}, "aliases": aliases or {}})
        )

    return write


def made(content: bytes = b"1", *, asked: int = 1, name: str = "kept") -> Version:
    lineage = json.dumps({"spec": {"registry": {"approvals": asked}}}).encode()
    digest, path = registry.store_folder({"model.json": content, "lineage.json": lineage})
    return registry.register(name, digest=digest, path=path, run_id=None, tags={})


ACTS: dict[str, Callable[[Version], object]] = {
    "viewer": lambda version: registry.resolve(str(version)),
    "trainer": lambda version: made(b"2"),
    "approver": lambda version: registry.promote(str(version)),
    "deployer": lambda version: registry.note(version.name, "served", role="deployer", version=version.number),
}


@pytest.mark.parametrize("role", ACTS)
def test_each_act_needs_its_role_and_nobody_has_one_unasked(rules: Any, become: Become, role: str) -> None:
    rules()
    become("tina")
    version = made()
    for name, roles in ROLES.items():
        become(name)
        if role == "viewer" or role in roles:
            ACTS[role](version)
        else:
            with pytest.raises(Forbidden, match=f"needs the role {role}, {name} has"):
                ACTS[role](version)
    become("eve")
    with pytest.raises(Forbidden, match="is nobody's"):
        ACTS[role](version)


def test_without_a_key_nothing_may_be_done(rules: Any, become: Become, monkeypatch: pytest.MonkeyPatch) -> None:
    rules()
    become("tina")
    version = made()
    monkeypatch.delenv("RAYMLOPS_KEY")
    for act in ACTS.values():
        with pytest.raises(Forbidden, match="set RAYMLOPS_KEY"):
            act(version)


def test_roles_may_hold_for_some_models_and_for_a_time(rules: Any, become: Become, keys: dict[str, str]) -> None:
    tina = {"key": keys["tina"], "roles": ["trainer"], "models": ["kept"]}
    rules({"tina": tina})
    become("tina")
    version = made()
    with pytest.raises(Forbidden, match="other: needs the role"):
        made(name="other")
    gone = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    rules({"tina": {**tina, "until": gone}})
    registry.check_loaded(version)
    rules({"tina": {**tina, "until": "2020-01-01"}})
    with pytest.raises(Forbidden):
        made(b"3")
    with pytest.raises(Conflict, match="was signed by tina, who is no trainer"):
        registry.check_loaded(version)


@pytest.mark.parametrize("by", ["file", "spec"])
def test_two_people_must_agree_where_the_file_or_the_spec_asks(rules: Any, become: Become, by: str) -> None:
    rules(aliases={"champion": {"approvals": 2}} if by == "file" else {})
    become("tina")
    first, second = made(asked=2 if by == "spec" else 1), made(b"2", asked=2 if by == "spec" else 1)
    become("ada")
    for attempt in (1, 2):  # approving twice is one person still
        assert "agreed to by ada; 2 must" in registry.approve(str(first)), attempt
        with pytest.raises(Forbidden, match="2 people must agree"):
            registry.promote(str(first))
    become("tina")
    with pytest.raises(Forbidden, match="needs the role approver"):
        registry.approve(str(first))
    become("abe")
    registry.promote(str(first))
    assert registry.resolve("kept").number == first.number
    with pytest.raises(Forbidden, match="2 people must agree"):
        registry.promote(str(second))  # what ada said was said of the first
    registry.approve(str(second))
    become("ada")
    registry.promote(str(second))
    registry.rollback("kept", why="it drops requests")  # where it stood before, one takes it back
    assert registry.resolve("kept").number == first.number
    registry.check_aliases("kept")
    assert [one.who for one in registry.history("kept") if one.what == "approved"] == ["ada", "ada", "abe"]


def test_without_an_access_file_a_spec_that_asks_for_two_people_gets_none(home: Path) -> None:
    version = made(asked=2)
    with pytest.raises(Forbidden, match="needs an access file"):
        registry.promote(str(version))
    with pytest.raises(SpecError, match="needs an access file"):
        registry.approve(str(version))


def test_an_alias_that_came_where_it_is_another_way_does_not_answer(rules: Any, become: Become) -> None:
    """Before there was an access file, and straight in MLflow; both are mended by who may."""
    version = made()
    registry.promote(str(version))
    rules()
    become("tina")
    with pytest.raises(Conflict, match="is not signed"):
        registry.resolve("kept")
    registry.sign(registry.resolve(str(version)))
    with pytest.raises(Conflict, match="has not the role approver and no key"):
        registry.resolve("kept")
    become("ada")
    registry.promote(str(version))
    assert registry.resolve("kept").number == version.number
    become("tina")
    other = made(b"2")
    from raymlops.registry.mlflow_client import client

    client().set_registered_model_alias("kept", "champion", str(other.number))
    with pytest.raises(Conflict, match="has no such move"):
        registry.resolve("kept")


def test_a_move_that_was_not_rightly_made_gives_no_right_to_go_back(rules: Any, become: Become) -> None:
    """A trainer writes into the journal that the version was champion; one approver still needs another one."""
    from raymlops.registry import journal

    rules(aliases={"champion": {"approvals": 2}})
    become("tina")
    version = made()
    journal.append("kept", "alias", who="ada", version=version.number, alias="champion")
    become("ada")
    with pytest.raises(Forbidden, match="2 people must agree"):
        registry.promote(str(version))


def test_what_was_agreed_to_is_the_bytes_and_not_their_number(rules: Any, become: Become) -> None:
    """Both are signed by a trainer, and MLflow is made to say that number 1 is what number 2 is."""
    from raymlops.registry.mlflow_client import client

    rules()
    become("tina")
    version, other = made(), made(b"2")
    become("ada")
    registry.promote(str(version))
    for tag, text in (("digest", other.digest), ("path", str(other.path))):
        client().set_model_version_tag("kept", str(version.number), tag, text)
    with pytest.raises(Conflict, match="it was registered with other bytes"):
        registry.resolve("kept")


def spoil_signature(home: Path, version: Version) -> None:
    path = home / "signatures" / version.name / f"{version.digest}.json"
    said = json.loads(path.read_bytes())
    said["signature"] = said["signature"][:-6] + "AAAA" + said["signature"][-2:]
    path.write_text(json.dumps(said))


def take_signature_of_another(home: Path, version: Version) -> None:
    folder = home / "signatures" / version.name
    other = made(b"other")
    (folder / f"{version.digest}.json").write_bytes((folder / f"{other.digest}.json").read_bytes())


def name_another_signer(home: Path, version: Version) -> None:
    path = home / "signatures" / version.name / f"{version.digest}.json"
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps({**said, "time": "2020-01-01T00:00:00+00:00"}))


def cut_signature(home: Path, version: Version) -> None:
    path = home / "signatures" / version.name / f"{version.digest}.json"
    path.write_bytes(path.read_bytes()[:40])


def lose_signature(home: Path, version: Version) -> None:
    (home / "signatures" / version.name / f"{version.digest}.json").unlink()


def change_model(home: Path, version: Version) -> None:
    (version.path / "model.json").write_bytes(b"7")


@pytest.mark.parametrize(
    "spoil",
    [spoil_signature, take_signature_of_another, name_another_signer, cut_signature, lose_signature, change_model],
)
def test_whoever_loads_a_version_sees_what_was_changed(
    home: Path, rules: Any, become: Become, spoil: Callable[[Path, Version], None]
) -> None:
    rules()
    become("tina")
    version = made()
    registry.check_loaded(version)
    spoil(home, version)
    with pytest.raises(Conflict):
        registry.check_loaded(version)


@pytest.mark.parametrize("word", ["signature", "key", "who"])
def test_a_line_of_the_journal_is_signed(
    home: Path, rules: Any, become: Become, keys: dict[str, str], word: str
) -> None:
    """Also if whoever changes it makes the chain anew: then the signature is not of that hash."""
    from raymlops.registry.journal import _hash

    rules()
    become("tina")
    made()
    path = home / "journal" / "kept.jsonl"
    (line,) = (json.loads(one) for one in path.read_text().splitlines())
    assert (line["who"], line["key"]) == ("tina", keys["tina"])
    assert is_signed(line["hash"].encode(), line["signature"], keys["tina"])
    line[word] = {"signature": "", "key": keys["eve"], "who": "ada"}[word]
    path.write_text(json.dumps({**line, "hash": _hash(line)}) + "\n")
    with pytest.raises(Conflict, match="its signature is not by the key"):
        registry.history("kept")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("people: {}", "people"),
        ("people: {a: {key: secret, roles: [trainer]}}", "people.a.key"),
        ("people: {a: {key: KEY, roles: [boss]}}", "people.a.roles"),
        ("people: {a: {key: KEY}, b: {key: KEY}}", "has the key of a"),
        ("people: {a: {key: KEY}}\naliases: {champion: {approvals: 0}}", "aliases.champion.approvals"),
        ("people: [", "is not YAML"),
        ("- people", "an access file is a mapping"),
        ("persons: {}", "persons"),
        ("people: {a: {key: KEY, roles: []}, a: {key: KEY, roles: [approver]}}", "people.a: given twice"),
    ],
)
def test_a_wrong_access_file_opens_nothing(home: Path, keys: dict[str, str], text: str, said: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "access.yaml").write_text(text.replace("KEY", keys["ada"]))
    with pytest.raises(SpecError, match=said):
        registry.listed("kept")


def test_a_date_is_written_as_yaml_has_them(home: Path, keys: dict[str, str], become: Become) -> None:
    home.mkdir(parents=True, exist_ok=True)
    text = f'people: {{tina: {{key: "{keys["tina"]}", roles: [trainer], until: DATE}}}}'
    become("tina")
    (home / "access.yaml").write_text(text.replace("DATE", "2999-01-01"))
    made()
    (home / "access.yaml").write_text(text.replace("DATE", "2020-01-01"))
    with pytest.raises(Forbidden):
        made(b"2")


def test_a_line_that_somebody_else_signed_moves_nothing(
    home: Path, rules: Any, become: Become, keys: dict[str, str]
) -> None:
    """Its chain is made anew, so that only its signature says that ada has not written it."""
    from raymlops.registry.journal import _hash

    rules()
    become("tina")
    version = made()
    become("ada")
    registry.promote(str(version))
    path = home / "journal" / "kept.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1]["why"] = "another reason"
    path.write_text("".join(json.dumps({**line, "hash": _hash(line)}) + "\n" for line in lines))
    with pytest.raises(Conflict, match="is not signed by ada"):
        registry.resolve("kept")


def test_a_named_access_file_that_is_not_there_opens_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYMLOPS_ACCESS", str(tmp_path / "none.yaml"))
    with pytest.raises(SpecError, match="is not there"):
        registry.listed("kept")


def test_a_private_key_is_for_its_owner_and_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    public = registry.new_key(path)
    monkeypatch.setenv("RAYMLOPS_KEY", str(path))
    signer = own_key()
    assert signer is not None
    assert signer.public == public
    with pytest.raises(Conflict, match="exists already"):
        registry.new_key(path)
    path.chmod(0o640)
    with pytest.raises(SpecError, match="chmod 600"):
        own_key()
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(SpecError, match="is no private key"):
        own_key()
    path.unlink()
    with pytest.raises(RaymlopsError, match="cannot be read"):
        own_key()
