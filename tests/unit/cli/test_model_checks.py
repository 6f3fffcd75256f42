"""What `runs create` finds out about a model before the run is stored: from a real HTTP server in
the hub's place.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.errors import InputError
from restmcts_cli.arguments.model_checks import check_context
from restmcts_cli.arguments.model_sources import policy_on_stack
from typer.testing import Result


class Hub(BaseHTTPRequestHandler):
    """Has one model, and answers as the hub does for those that it has not."""

    def do_GET(self) -> None:
        known = self.path.startswith("/api/models/someone/known")
        body = json.dumps({"id": "someone/known"} if known else {"error": "Repository not found"}).encode()
        self.send_response(200 if known else 401)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def create(tmp_path: Path, call: Callable[..., Result]) -> Callable[..., Result]:
    """Create a run under a policy, in a work folder."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{n} + 1?", "answer": n + 1}) + "\n" for n in range(30)))

    def run(policy: str) -> Result:
        return call("runs", "create", "new", problems, "--policy", policy, "--workdir", tmp_path / "work")

    return run


def test_what_the_hub_does_not_have_is_refused_before_the_run_is_stored(
    hub: None, create: Callable[..., Result], call: Callable[..., Result], tmp_path: Path
) -> None:
    refused = create("someone/unknown")
    assert isinstance(refused.exception, InputError)
    assert "someone/unknown: no such folder, and the hub has no such model" in str(refused.exception)
    assert json.loads(call("runs", "list", "--workdir", tmp_path / "work", "--json").stdout) == []
    created = create("someone/known")
    assert created.exit_code == 0, created.exception
    assert "not checked" not in created.stderr


def test_a_hub_that_does_not_answer_is_said_and_the_run_stored(
    create: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    created = create("someone/unknown")
    assert created.exit_code == 0, created.exception
    assert "someone/unknown is not checked, as the hub does not answer here" in created.stderr
    assert "is blocked, and continues by itself" in created.stderr


@pytest.mark.parametrize("listens", [True, False])
def test_a_server_at_which_nobody_listens_is_said_and_the_run_stored(
    create: Callable[..., Result], listens: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not listens:
            server.close()
        created = create(f"openai+http://127.0.0.1:{port}/v1?model=m")
    assert created.exit_code == 0, created.exception
    assert (f"nobody answers at 127.0.0.1:{port} from here" in created.stderr) != listens


def test_a_step_that_no_context_holds_is_refused_before_the_run(tmp_path: Path) -> None:
    check_context(str(tmp_path), 256)
    check_context("someone/known", 256)
    for config in ({"max_position_embeddings": 128}, {"text_config": {"max_position_embeddings": 128}}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        check_context(str(tmp_path), 127)
        with pytest.raises(InputError, match="reads at most 128 tokens, and a step may take 128: give fewer"):
            check_context(str(tmp_path), 128)


def test_a_folder_is_known_on_the_stack_by_its_files_before_it_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    stored = FolderArtifactStore(tmp_path / "store").put(folder, "checkpoints", {"given_as": "model"})
    assert policy_on_stack(str(folder)) == stored.uri
    assert policy_on_stack("someone/model") == "someone/model"
