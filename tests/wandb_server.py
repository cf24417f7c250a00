"""A server on 127.0.0.1 that keeps what ``wandb sync`` sends: W&B's own reading of its offline files."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Version(NamedTuple):
    """One version of an artifact."""

    aliases: list[str]
    files: dict[str, str]
    """Name to MD5, in base 64."""


class SyncedRun(NamedTuple):
    """One W&B run as its server knows it after ``wandb sync``."""

    about: dict[str, Any]
    """``jobType``, ``groupName``, ``displayName``, ``commit``, ``config`` (as text) ..."""
    streams: dict[str, dict[int, dict]]
    """``wandb-history.jsonl``, ``wandb-events.jsonl`` (system metrics), ``wandb-summary.json``: their lines."""
    files: dict[str, bytes]
    """Name to content."""
    artifacts: dict[str, list[Version]]
    """Name to its versions."""

    @property
    def history(self) -> list[dict]:
        """The curves: one row for each epoch."""
        return [row for _, row in sorted(self.streams.get("wandb-history.jsonl", {}).items())]

    @property
    def events(self) -> list[dict]:
        """The system metrics."""
        return [row for _, row in sorted(self.streams.get("wandb-events.jsonl", {}).items())]

    @property
    def summary(self) -> dict:
        """The newest."""
        return json.loads(self.files["wandb-summary.json"])


class Server(ThreadingHTTPServer):
    """Answers W&B's client as far as syncing needs it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, SyncedRun] = {}
        self.versions: dict[str, Version] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the client has closed a connection that it keeps open."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def run(self, name: str) -> SyncedRun:
        """The run of an id, made as needed."""
        return self.runs.setdefault(name, SyncedRun({}, {}, {}, {}))

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """What W&B's server answers to an operation of its GraphQL interface."""
        if operation == "UpsertBucket":
            run = self.run(given["name"])
            run.about.update({key: value for key, value in given.items() if value is not None})
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": given["name"], "name": given["name"], "displayName": "", "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            places = [{"name": name, "uploadUrl": f"{self.url}/put/{given['run']}/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": places}}
        if operation == "CreateArtifact":
            asked = given["input"]
            version = Version([alias["alias"] for alias in asked["aliases"]], {})
            self.run(asked["runName"]).artifacts.setdefault(asked["artifactCollectionName"], []).append(version)
            made = {"id": f"a{len(self.versions)}", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            self.versions[made["id"]] = version
            return {"createArtifact": {"artifact": made}}
        if operation == "CreateArtifactManifest":
            file = {"id": "f", "uploadUrl": f"{self.url}/put/-/manifest", "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = []
            for file in given["input"]["artifactFiles"]:
                self.versions[file["artifactID"]].files[file["name"]] = file["md5"]
                place = {"uploadUrl": f"{self.url}/put/-/{file['name']}", "uploadHeaders": []}
                nodes.append({**place, "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}})
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        return {
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": ""}}},
        }.get(operation, {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_PUT(self) -> None:
        _, _, run, name = self.path.split("/", 3)
        self.server.run(run).files[name] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        content = json.loads(self._body())
        if self.path == "/graphql":
            answer = self.server.answer(content["operationName"], content.get("variables") or {})
            self._reply({"data": answer})
            return
        run = self.server.run(self.path.split("/")[4])  # /files/<entity>/<project>/<run>/file_stream
        for name, part in (content.get("files") or {}).items():
            lines = {part["offset"] + place: json.loads(line) for place, line in enumerate(part["content"])}
            run.streams.setdefault(name, {}).update(lines)
        self._reply({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def sync(folders: Sequence[Path], home: Path) -> list[SyncedRun]:
    """What a server gets when the command ``wandb sync`` is given the folders of offline runs."""
    home.mkdir(exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40, "WANDB_ERROR_REPORTING": "false"}
        command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
        told = subprocess.run(
            command, env={**own, "HOME": str(home)}, cwd=home, capture_output=True, text=True, timeout=300, check=False
        )
        server.shutdown()
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("Finished syncing") == len(folders), told.stderr
    return [run for name, run in server.runs.items() if name != "-"]
