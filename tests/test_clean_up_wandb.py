"""clean_up_wandb.py, against a server on this machine that answers as the GraphQL API of wandb does."""
import gzip
import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from clean_up_wandb import old_versions
from utilities import ROOT

KEY = "k" * 40
# {artifact: {version number: aliases}} of type model
VERSIONS = {"tokenizer_my": {0: [], 1: ["best"], 2: [], 10: ["latest"], 9: []}, "maskgit_my": {0: ["latest"]},
            "sharpen_my": {3: [], 4: ["latest", "shown"]}}
OLD = {"tokenizer_my:v0", "tokenizer_my:v2", "tokenizer_my:v9", "sharpen_my:v3"}
PROJECT = {"id": "project", "internalId": "7", "name": "sky-outpainting", "entity": {"name": "me"}}
PER_PAGE = 2


class Server(ThreadingHTTPServer):
    """Holds the versions of VERSIONS; refuses to delete those of `refused`, and what is asked with another key."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.versions = {name: dict(versions) for name, versions in VERSIONS.items()}
        self.types, self.refused = ["dataset", "model"], set()

    def answer(self, operation, given):
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "user", "entity": "me", "username": "me", "email": "", "flags": "{}",
                               "teams": {"edges": []}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "DeleteArtifact":
            return self.delete(given["input"])
        if (given["entity"], given["project"]) != ("me", "sky-outpainting"):
            return {"project": None}
        if operation == "ProjectArtifactTypes":
            return {"project": {"artifactTypes": page([{"node": self.type(name)} for name in self.types], given)}}
        assert given["type"] == "model"
        if operation == "ArtifactTypeArtifactCollections":
            found = {"artifactCollections": page([{"node": self.collection(name)} for name in self.versions], given)}
        else:
            assert operation == "ProjectArtifacts"
            name = given["collection"]
            nodes = [self.version(name, number) for number in self.versions[name]]
            edges = [{"version": f"v{node['versionIndex']}", "node": node} for node in nodes]
            found = {"artifactCollection": {"__typename": "ArtifactSequence", "artifacts": page(edges, given)}}
        return {"project": {"artifactType": found}}

    def type(self, name):
        return {"__typename": "ArtifactType", "id": name, "name": name, "description": "",
                "createdAt": "2024-05-01T00:00:00Z"}

    def collection(self, name):
        return {"__typename": "ArtifactSequence", "id": name, "name": name, "description": "",
                "createdAt": "2024-05-01T00:00:00Z", "updatedAt": None, "project": PROJECT, "type": {"name": "model"},
                "tags": {"edges": []}}

    def version(self, name, number):
        collection = {"__typename": "ArtifactSequence", "name": name, "project": PROJECT}
        aliases = [{"__typename": "ArtifactAlias", "id": alias, "alias": alias, "artifactCollection": collection}
                   for alias in (f"v{number}", *self.versions[name][number])]
        return {"__typename": "Artifact", "id": f"{name}:v{number}", "artifactSequence": collection,
                "versionIndex": number, "artifactType": {"name": "model"}, "description": "", "metadata": "{}",
                "ttlDurationSeconds": -1, "ttlIsInherited": True, "tags": [], "historyStep": None,
                "state": "COMMITTED", "size": 2_500_000, "digest": "0", "digestAlgorithm": None, "commitHash": "0",
                "fileCount": 2, "createdAt": "2024-05-01T00:00:00Z", "updatedAt": None, "aliases": aliases}

    def delete(self, given):
        name, number = given["artifactID"].split(":v")
        if given["artifactID"] in self.refused or (self.versions[name][int(number)] and not given["deleteAliases"]):
            return None
        del self.versions[name][int(number)]
        return {"result": {"artifact": {"id": given["artifactID"]}}}

    def left(self):
        return {f"{name}:v{number}" for name, versions in self.versions.items() for number in versions}


def page(edges, given):
    """A page of a list, after given["cursor"]; pages are shorter than is asked for, so that there are several."""
    start = int(given["cursor"] or 0)
    end = start + PER_PAGE
    return {"totalCount": len(edges), "edges": edges[start:end],
            "pageInfo": {"__typename": "PageInfo", "endCursor": str(end), "hasNextPage": end < len(edges)}}


class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        if self.path != "/graphql":
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        authorised = self.headers["Authorization"] == f"Basic {b64encode(f'api:{KEY}'.encode()).decode()}"
        operation = re.search(r"(?:query|mutation) (\w+)", asked["query"])[1]
        found = self.server.answer(operation, asked.get("variables"))
        said = {"data": found} if found else {"data": None, "errors": [{"message": "it is linked elsewhere"}]}
        content = json.dumps(said).encode() if authorised else b"{}"
        self.send_response(200 if authorised else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def run(server, tmp_path):
    """Function that runs the command; returns (exit status, what it printed)."""
    def run(*options, answer="", key=KEY, url=None):
        cleared = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        environment = {**cleared, "HOME": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path), "WANDB_API_KEY": key,
                       "WANDB_HTTP_TIMEOUT": "5",
                       "WANDB_BASE_URL": url or f"http://127.0.0.1:{server.server_port}"}
        done = subprocess.run([sys.executable, ROOT / "clean_up_wandb.py", *options], input=answer, text=True,
                              capture_output=True, cwd=tmp_path, env=environment, check=False, timeout=120)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def version(number, *aliases):
    return SimpleNamespace(version=f"v{number}", aliases=list(aliases))


def test_the_newest_and_those_with_aliases_are_kept():
    versions = [version(2), version(10), version(9, "v9"), version(1, "best"), version(0, "latest", "v0")]
    assert [each.version for each in old_versions(versions)] == ["v2", "v9"]
    assert old_versions([]) == old_versions([version(5)]) == []


def test_a_dry_run_lists_old_versions_and_deletes_nothing(run, server):
    status, output = run("--dry_run")
    assert status == 0
    assert set(re.findall(r"^(\S+:v\d+) +2\.5 MB", output, re.MULTILINE)) == OLD
    assert "4 versions, 10.0 MB" in output
    assert len(server.left()) == 8


def test_old_versions_are_deleted_after_yes(run, server):
    everything = server.left()
    status, output = run(answer="n\n")
    assert (status, server.left()) == (0, everything)
    assert "Nothing was deleted" in output
    status, output = run()
    assert (status, server.left()) == (2, everything)
    assert "give --yes" in output
    status, output = run("--entity", "me", answer="y\n")
    assert (status, server.left()) == (0, everything - OLD)
    assert "Deleted 4 of 4" in output
    status, output = run("--yes")
    assert (status, server.left()) == (0, everything - OLD)
    assert "no old versions" in output


def test_a_version_that_cannot_be_deleted_is_said_and_the_others_are(run, server):
    server.refused.add("tokenizer_my:v2")
    status, output = run("--yes")
    assert status == 2
    assert OLD & server.left() == {"tokenizer_my:v2"}
    assert "Kept tokenizer_my:v2" in output
    assert "it is linked elsewhere" in output


def test_a_project_without_models_has_nothing_old(run, server):
    server.types.remove("model")
    status, output = run()
    assert status == 0
    assert "no old versions" in output


@pytest.mark.parametrize(("options", "changes", "words"), [
    (("--project", "land"), {}, "there is no project land"),
    (("--entity", "you"), {}, "there is no project you/sky-outpainting"),
    ((), {"key": ""}, "no wandb key"),
    ((), {"key": "x" * 40}, "cannot be asked"),
    ((), {"url": "http://127.0.0.1:9"}, "cannot be asked"),
], ids=["project", "entity", "no key", "wrong key", "no network"])
def test_what_is_wrong_is_one_sentence(run, options, changes, words):
    status, output = run(*options, **changes)
    assert status == 2
    assert re.fullmatch(r"clean_up_wandb\.py: error: .*\.\n", output), output
    assert words in output
