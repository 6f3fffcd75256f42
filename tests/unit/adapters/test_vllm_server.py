"""The process of a vLLM server, as far as it goes without vLLM: tests/engines has the real one."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from restmcts.adapters.models.vllm_server.process import VllmProcess, VllmSettings, command_line
from restmcts.adapters.models.vllm_server.weights import VllmServer, Weights, same_shape
from restmcts.errors import InputError, ModelError
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_policy_generator.vllm_engine import VllmEngine

SLEEPS_FOR_LONG = "#!/bin/sh\nsleep 600 &\nsleep 600\n"


def program(tmp_path: Path, text: str) -> str:
    """A program in place of vLLM, which never answers."""
    file = tmp_path / "program"
    file.write_text(text)
    file.chmod(0o755)
    return str(file)


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTMCTS_VLLM_COMMAND", "no-such-vllm")
    with pytest.raises(ModelError, match=r"no program 'no-such-vllm'.*pip install vllm.*RESTMCTS_VLLM_COMMAND"):
        VllmEngine().check()


def test_an_engine_that_starts_its_server_is_no_address() -> None:
    with pytest.raises(InputError, match=r"--engine vllm; for one that runs write openai\+http"):
        checkpoint_argument("vllm+http://host:1/v1?model=m", "policy", False)


def test_further_arguments_are_those_that_one_would_type(tmp_path: Path) -> None:
    settings = VllmSettings(program(tmp_path, ""), "--max-model-len 2048 --override '{\"a\": 1}'")
    command = command_line(settings, "weights", "bfloat16", 8123)
    assert command[1:3] == ["serve", "weights"] and command[-4:] == [
        "--max-model-len",
        "2048",
        "--override",
        '{"a": 1}',
    ]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    with pytest.raises(ModelError, match="RESTMCTS_VLLM_ARGUMENTS cannot be read"):
        command_line(VllmSettings(settings.command, "--a 'b"), "weights", "auto", 1)


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    settings = VllmSettings(
        program(tmp_path, "#!/bin/sh\necho 'RuntimeError: no memory' >&2\nexit 3\n"), log_folder=tmp_path
    )
    server = VllmServer(settings)
    with pytest.raises(ModelError, match=r"ended before it answered: RuntimeError: no memory \(log: "):
        server.begin(Weights("one", "weights"))
    assert not server.runs and server.num_starts == 1
    server.close()


def test_a_server_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    settings = VllmSettings(program(tmp_path, SLEEPS_FOR_LONG), start_seconds=0.2, log_folder=tmp_path)
    process = VllmProcess(settings, "weights", "auto")
    with pytest.raises(ModelError, match="did not answer within 0 s"):
        process.await_ready(lambda: False)
    assert not process.runs


def test_a_server_and_what_it_started_end_with_whoever_started_it(tmp_path: Path) -> None:
    begin = (
        "import sys, time\nfrom pathlib import Path\n"
        "from restmcts.adapters.models.vllm_server.process import VllmProcess, VllmSettings\n"
        "process = VllmProcess(VllmSettings(sys.argv[1], log_folder=Path(sys.argv[2])), 'weights', 'auto')\n"
        "print(process.pid, flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", begin, program(tmp_path, SLEEPS_FOR_LONG), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        keeper = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 60
        while len(keeper.children(recursive=True)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        children = keeper.children(recursive=True)
        parent.kill()
    _, alive = psutil.wait_procs([keeper, *children], timeout=30)
    assert len(children) == 3 and not alive


@pytest.mark.parametrize(
    ("change", "tokenizer", "expected"),
    [
        ({}, "{}", True),
        ({"_name_or_path": "other", "transformers_version": "9", "use_cache": False}, "{}", True),
        ({"hidden_size": 128}, "{}", False),
        ({}, '{"a": 1}', False),
    ],
)
def test_weights_are_swapped_in_place_where_all_else_is_the_same(
    tmp_path: Path, change: dict[str, object], tokenizer: str, expected: bool
) -> None:
    for name, config, text in (("one", {}, "{}"), ("other", change, tokenizer)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"hidden_size": 64} | config))
        (tmp_path / name / "tokenizer.json").write_text(text)
    one, other = (Weights(name, str(tmp_path / name)) for name in ("one", "other"))
    assert same_shape(one, other) is expected
    assert not same_shape(one, Weights("other", str(tmp_path / "other"), "float32"))
    assert not same_shape(one, Weights("hub", "someone/model"))
