"""Models made on the spot, problem files, the command line as a process, and a browser.

What trains is imported where it is needed: xdist reads this file before it starts its processes.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from restmcts.domain.problems import Problem
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.tasks.number_paths import FRESH_POLICY, SetSizes, make_problem_sets
from restmcts.testing.forked_commands import CommandServer, ForkedCommand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
# A shell that starts the tests in the background makes them ignore SIGINT, and with them all that
# they start.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{INTERRUPTIBLE}; from restmcts_cli.main import run; run()"]
# what a command with a model imports, seconds of it before it does anything
IMPORTED = (
    "restmcts_cli.commands.learning.selftrain",
    "restmcts_local.local_run",
    "restmcts.modeling.checkpoints",
    "transformers.models.llama.modeling_llama",
)
IMPORTED_BY_TRAININGS = ("restmcts_trainer.jobs",)
NUM_PROBLEMS = 40
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def commands(environment: dict[str, str]) -> Iterator[CommandServer]:
    with CommandServer("restmcts_cli.main:run", (*IMPORTED, *IMPORTED_BY_TRAININGS), environment) as server:
        yield server


@pytest.fixture(scope="session")
def restmcts(commands: CommandServer) -> Run:
    """Run the command line to its end; keyword arguments go to `CommandServer.run`."""

    def run(*arguments: object, timeout: float = 200.0, **options: Any) -> "subprocess.CompletedProcess[str]":
        return commands.run([*map(str, arguments)], timeout, **options)

    return run


@pytest.fixture(scope="session")
def restmcts_anew(environment: dict[str, str]) -> Run:
    """Run the command line to its end in an interpreter of its own; keyword arguments go to
    `subprocess.run`.
    """

    def run(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        command = [*COMMAND, *map(str, arguments)]
        options.setdefault("timeout", 200)
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)

    return run


@pytest.fixture(scope="session")
def start(commands: CommandServer) -> Iterator[Callable[..., ForkedCommand]]:
    """Start the command line, its output going to a file, and return at once; what still runs
    at the end is killed.
    """
    yield from started_on(commands)


@pytest.fixture(scope="module")
def start_with_children(environment: dict[str, str]) -> Iterator[Callable[..., ForkedCommand]]:
    """As `start`; the processes in which a command trains are its own children, not forked for
    it.
    """
    with CommandServer("restmcts_cli.main:run", IMPORTED, environment) as server:
        yield from started_on(server)


def started_on(server: CommandServer) -> Iterator[Callable[..., ForkedCommand]]:
    started: list[ForkedCommand] = []

    def run(output: Path, *arguments: object) -> ForkedCommand:
        with output.open("wb") as file:
            started.append(server.start([*map(str, arguments)], file, file))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def puzzles() -> Sequence[Problem]:
    return make_problem_sets(random.Random(5), SetSizes(NUM_PROBLEMS, 1, 1, test=1, validation=0)).demonstrations


@pytest.fixture(scope="session")
def puzzle_policy(tmp_path_factory: pytest.TempPathFactory, puzzles: Sequence[Problem]) -> Path:
    """A policy that has learnt the puzzles nearly by heart."""
    from restmcts.modeling.training.training import train_policy
    from restmcts.modeling.training.training_rows import PolicyExample

    folder = tmp_path_factory.mktemp("models")
    examples = [PolicyExample(problem.question, problem.solution or ()) for problem in puzzles]
    settings = TrainingSettings(
        num_steps=80, batch_size=20, learning_rate=3e-3, optimizer="muon", muon_learning_rate=0.01
    )
    train_policy(f"{FRESH_POLICY}0", examples, settings, folder / "policy")
    return folder / "policy"


@pytest.fixture(scope="session")
def puzzle_file(tmp_path_factory: pytest.TempPathFactory, puzzles: Sequence[Problem]) -> Path:
    """The puzzles without their solutions."""
    path = tmp_path_factory.mktemp("problems") / "puzzles.jsonl"
    rows = [{"question": problem.question, "answer": problem.answer, "kind": problem.kind} for problem in puzzles]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def random_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights over bytes: it takes any text and solves nothing."""
    from restmcts.modeling.training.training import initialise_policy
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "random"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: place for place, token in enumerate([*alphabet, "<eos>"])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,  # which also bounds how long it babbles
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    initialise_policy(config, tokenizer, folder, 0, template="plain")
    return folder


@pytest.fixture(scope="module")
def playwright() -> "Iterator[Playwright]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: "Playwright") -> "Iterator[Browser]":
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no Chromium on this machine: `make browser` installs it where it may, else `apt install chromium`")
    browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS.split())
    yield browser
    browser.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """A page on which no script may fail, and nothing may be refused by the content policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert faults == []
