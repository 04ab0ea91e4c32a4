"""Sets and pathways pushed to a hub and loaded from there, by the hub's own client, and what goes wrong on the way."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import hub_running

from c3po_adaptive.testing import write_tiny_checkpoint

CLIENT = Path(__file__).with_name("hub_client.py")


def started(what, address, home, **environment):
    """A client at work."""
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    inner = {"HF_ENDPOINT": address, "HF_HOME": str(home / "home"), "C3PO_CACHE": str(home / "cache")}
    inner |= {"HF_HUB_DISABLE_XET": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, CLIENT, what], env=outer | inner, cwd=home, **pipes)


def result(client):
    """What it found, as JSON."""
    out, err = client.communicate()
    assert client.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def tiny(folder, seed):
    """As large as the default strategies need: five layers of twenty experts."""
    return write_tiny_checkpoint(folder, "olmoe", seed=seed, num_hidden_layers=5, num_experts=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def hub(place):
    with hub_running() as hub:
        for seed, name in enumerate(("tiny-olmoe", "other-olmoe")):
            hub.add("model", f"someone/{name}", tiny(place / name, seed))
        (place / "empty").mkdir()
        (place / "empty" / "README.md").write_text("nothing yet")
        (place / "damaged").mkdir()
        for file in ("card.json", "questions.parquet", "tensors.safetensors"):
            (place / "damaged" / file).write_text("{}")
        hub.add("dataset", "someone/empty", place / "empty")
        hub.add("dataset", "someone/damaged", place / "damaged")
        hub.add("dataset", "someone/gated", place / "damaged", gated=True)
        hub.add("model", "someone/hidden", place / "empty", private=True)
        yield hub


@pytest.fixture(scope="module")
def found(hub, place):
    return result(started("online", hub.address, place, HF_TOKEN="may-write"))


@pytest.fixture(scope="module")
def without_a_hub(found, hub, place):
    """What clients find that must not reach it, and that cannot: side by side, as they mostly wait."""
    clients = {
        "offline": started("offline", hub.address, place, HF_HUB_OFFLINE="1"),
        "unreachable": started("unreachable", "http://127.0.0.1:9", place),  # nothing listens there
    }
    return {name: result(client) for name, client in clients.items()}


@pytest.fixture
def found_offline(without_a_hub):
    return without_a_hub["offline"]


def metadata(repository):
    text = repository.files["README.md"].decode()
    return yaml.safe_load(text.split("---")[1]), text


class TestReferenceSets:
    def test_round_trip(self, found, hub, place):
        same, folder, oid = found["set"]
        assert same
        assert Path(folder).parent == place / "cache" / "refsets", "not in the hub's cache, where nothing may be added"
        repository = hub.repositories["dataset", "someone/a-set"]
        assert repository.commits[oid].keys() == {"README.md", "card.json", "questions.parquet", "tensors.safetensors"}
        assert repository.messages[oid] == "Twelve questions"
        assert not repository.private

    def test_revisions(self, found):
        assert (found["newest"], found["branch"], found["first"]) == (6, 6, 12)
        assert found["kept once"] == found["set"][1]

    def test_card(self, found, hub):
        repository = hub.repositories["dataset", "someone/a-set"]
        known, text = metadata(repository)
        assert known["base_model"] == "someone/tiny-olmoe"
        assert {"c3po", "reference-set"} <= set(known["tags"])
        assert known["configs"] == [{"config_name": "default", "data_files": "questions.parquet"}]
        assert "license" not in known, "nobody said which, the second time"
        card = json.loads(repository.files["card.json"])
        assert card["revision"] == hub.repositories["model", "someone/tiny-olmoe"].names["main"]
        assert f"load_moe_model('someone/tiny-olmoe', dtype='float32', revision='{card['revision']}')" in text
        for part in (card["model"], card["format"], card["embedder"]["name"], card["versions"]["torch"]):
            assert part in text
        assert re.search(r"\| questions \| 6 \|\n\| answered right \| 6 \(100.0%\)", text)
        assert "| toy | 6 | 6 | 100.0% |" in text
        assert repository.commits[found["set"][2]]["README.md"].startswith(b"---\nlicense: cc-by-4.0\n")

    def test_its_snippet_runs(self, found):
        assert found["set's snippet"] == [True, "RoutedModel"]


class TestPathways:
    def test_round_trip(self, found, hub):
        *same, url = found["pathway"]
        assert same == [True, True, True]
        repository = hub.repositories["model", "someone/a-pathway"]
        assert repository.private
        assert url.startswith(f"{hub.address}/someone/a-pathway/commit/")
        assert repository.files.keys() == {"README.md", "pathway.safetensors"}
        assert len(repository.files["pathway.safetensors"]) < 3000

    def test_card(self, found, hub):
        known, text = metadata(hub.repositories["model", "someone/a-pathway"])
        assert known["base_model"] == "someone/tiny-olmoe"
        assert known["library_name"] == "c3po_adaptive"
        assert "Which object can float on water?" in text

    def test_its_snippet_runs(self, found):
        assert found["pathway's snippet"] == [True, "RoutedModel"]

    def test_another_model_refuses_it(self, found):
        assert re.match(
            "DataError: Expected a pathway of this model .*other-olmoe.*, got one of", found["another model"]
        )


def test_a_card_that_a_person_altered_stays(found, hub):
    """In every push after it, with a warning; one that nobody altered is made anew."""
    oids, warned = found["cards"]
    first, again, altered, last = (hub.repositories["model", "someone/carded"].commits[oid] for oid in oids)
    assert b"license: mit" in first["README.md"] and b"license: cc-by-4.0" in again["README.md"]
    assert last["README.md"] == altered["README.md"] and b"What I found" in last["README.md"]
    assert warned[:2] == [[], []]
    assert re.match("The README.md of someone/carded stays as it is.* delete it there and push again", warned[2][0])


@pytest.mark.parametrize(("case", "message"), [
    ("no repository", "ArtifactError: Expected the dataset someone/nothing on the Hub, .*check the name; a private"),
    ("of the other kind", "ArtifactError: Expected the dataset someone/a-pathway on the Hub"),
    ("no revision", "ArtifactError: Expected the dataset someone/a-set in revision 'v9'.*name a branch"),
    ("no file", "ArtifactError: Expected the dataset someone/empty on the Hub to hold card.json.*none of the name"),
    ("gated", "ArtifactError: Expected the dataset someone/gated on the Hub.*ask for access on its page"),
    ("damaged", r"DataError: .*card\.json: expected the card of a reference set"),
    ("no name", r"DataError: Expected a folder that is there, or a repository's name \(user/name\), got '\.\./a/set'"),
    ("no folder", r"DataError: Expected a folder that is there, .* got '\./nowhere'"),
    ("private, without a token", "ArtifactError: Expected the model someone/hidden on the Hub.*needs a token"),
    ("pushed without a token", "ArtifactError: Expected a token that may write to someone/more, got none; run hf auth"),
    ("pushed with a reader's", r"ArtifactError: Expected the \w+ someone/more on the Hub.*use a token that may do"),
    ("pushed with a wrong one", r"ArtifactError: Expected the \w+ someone/more on the Hub"),
    ("public already", "ArtifactError: Expected someone/a-set to be private.*nothing was written"),
    ("of no model", "SettingError: Expected a pathway that says which model and text it is of"),
])  # fmt: skip
def test_what_goes_wrong(found, hub, case, message):
    assert re.match(message, str(found[case]), re.DOTALL), found[case]
    assert ("dataset", "someone/more") not in hub.repositories
    assert ("model", "someone/more") not in hub.repositories


class TestOffline:
    def test_what_is_in_the_cache_is_found(self, found_offline):
        assert found_offline["kept"] == 6

    @pytest.mark.parametrize(("case", "message"), [
        ("not kept", "ArtifactError: Expected the dataset someone/other-set on the Hub.*HF_HUB_OFFLINE"),
        ("not this revision", "ArtifactError: Expected the dataset someone/a-set"),
        ("pushed", "ArtifactError: Expected the dataset someone/a-set on the Hub.*connect"),
        ("no token", "ArtifactError: Expected a token that may write"),
    ])  # fmt: skip
    def test_what_goes_wrong(self, found_offline, case, message):
        assert re.match(message, str(found_offline[case]), re.DOTALL), found_offline[case]


def test_a_hub_that_nobody_answers_for(without_a_hub):
    """The cache serves, and the rest is said."""
    unreachable = without_a_hub["unreachable"]
    assert unreachable["kept"] == 6
    for case in ("not kept", "pushed"):
        assert unreachable[case].startswith("ArtifactError: Expected the dataset someone/"), unreachable[case]
        assert "connect" in unreachable[case]
