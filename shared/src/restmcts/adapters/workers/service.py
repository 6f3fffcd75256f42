"""What the handlers of a service are made from, whoever composes them: a Celery worker of one
queue, one process with all services, a test.

Each service has one `start(context) -> handlers`, which is the only table of its messages.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from restmcts.adapters.sql.database import Database
from restmcts.domain.runs.training_settings import Dtype, Sharding
from restmcts.domain.training_machines import TrainingMachines
from restmcts.ports import ArtifactStore, StepProposer, StepScorer, Verifier
from restmcts.settings import PolicyServerSettings, Settings

MODELS_AT_ONCE = 16
"""That a worker of the stack calls side by side: more than the runs that wait at once."""

Handler = Callable[[Any], None]
"""Takes messages of one class: that of its wire name."""

Handlers = Mapping[str, Handler]
"""By wire name."""

TrainProgress = Callable[[str, int, int, float], None]
"""Takes a phase's name, the number of a training step, of all steps, and the mean loss since the
call before."""


class LoadOptions(TypedDict):
    """Keyword arguments of whatever loads weights."""

    device: str
    template: str
    trust_remote_code: bool
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class WorkerModelSettings:
    """How models are loaded and called.

    Attributes:
        max_batch_tokens: of one forward pass.
        key_value_bytes: memory for the keys and values that each loaded model keeps of what it has
            read; 0: none.
        device: of torch.
        template: prompt template of checkpoints that do not name their own.
        trust_remote_code: run code that comes with a model.
        dtype: of the weights.
        servers: how models behind HTTP are reached.
        engine: that runs policies which are no servers.
        log_folder: of the logs of servers that are started here.
    """

    max_batch_tokens: int = 16_384
    key_value_bytes: int = 2**30
    device: str = "cpu"
    template: str = "auto"
    trust_remote_code: bool = False
    dtype: Dtype = "auto"
    servers: PolicyServerSettings = field(default_factory=PolicyServerSettings)
    engine: str = "transformers"
    log_folder: Path = Path("run/logs")

    @property
    def loading(self) -> LoadOptions:
        """What loading needs of them."""
        return {
            "device": self.device,
            "template": self.template,
            "trust_remote_code": self.trust_remote_code,
            "dtype": self.dtype,
        }


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How services work.

    Attributes:
        workspace: folder for what a training makes.
        models: how models are loaded and called.
        max_requests: of one claim of a model worker.
        request_lease_seconds: after which another worker may take the requests of a silent one.
        max_models_at_once: models that a worker serves side by side, of which at most one is
            loaded in its process; 0: one after the other.
        max_trees_in_flight: searching trees of one run.
        max_cached_trees: searches that a search worker keeps in memory.
        verify_seconds: limit for one check of an answer.
        job_lease_seconds: after which another worker may take a training job of a silent one.
        training_processes: of this machine that train one model together.
        training_machines: that do so; None: this one alone.
        training_sharding: what each of them keeps of the model.
        training_threads: of each training process; None: torch's own choice.
        keep_training_logs: write TensorBoard's event files.
    """

    workspace: Path
    models: WorkerModelSettings = field(default_factory=WorkerModelSettings)
    max_requests: int = 256
    request_lease_seconds: float = 20.0
    max_models_at_once: int = 0
    max_trees_in_flight: int = 256
    max_cached_trees: int = 4096
    verify_seconds: float = 5.0
    job_lease_seconds: float = 60.0
    training_processes: int = 1
    training_machines: TrainingMachines | None = None
    training_sharding: Sharding = "none"
    training_threads: int | None = None
    keep_training_logs: bool = True


def settings_of_stack(settings: Settings, servers: PolicyServerSettings) -> ServiceSettings:
    """Return what the environment of a worker says of its service."""
    return ServiceSettings(
        workspace=settings.run_dir / "training",
        models=WorkerModelSettings(
            settings.max_batch_tokens,
            settings.key_value_bytes,
            device=settings.device,
            dtype=settings.dtype,
            servers=servers,
            engine=settings.engine,
            log_folder=settings.run_dir / "logs",
        ),
        max_requests=settings.max_requests,
        request_lease_seconds=settings.request_lease_seconds,
        max_models_at_once=MODELS_AT_ONCE,
        max_trees_in_flight=settings.max_trees_in_flight,
        verify_seconds=settings.verify_seconds,
        job_lease_seconds=settings.job_lease_seconds,
        training_processes=settings.training_processes,
        training_machines=settings.training_machines,
        training_sharding=settings.training_sharding,
    )


@dataclass(frozen=True, slots=True)
class OpenModels:
    """Functions that return a model from the URI of its checkpoint, and the verifier, in place of
    what the services open themselves; None: the service's own way.
    """

    policy: Callable[[str], StepProposer] | None = None
    scorer: Callable[[str], StepScorer] | None = None
    verifier: Verifier | None = None


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a service's `start` takes.

    Attributes:
        opened: models and a verifier that are there already.
        on_batch: called after every batch of model requests.
        at_work: around work that goes on after its message was handled.
        on_training_step: called as a training goes on.
        stopping: set once the process was asked to end; what it does should then end within
            seconds.
        stoppers: called at that moment, also in a signal handler.
        closers: called when the process ends, last first.
        ticks: called every second or so, where the process has a clock.
        sparers: called before a training begins beside this process: they give up memory that only
            saves time.
    """

    database: Database
    artifacts: ArtifactStore
    settings: ServiceSettings
    opened: OpenModels = field(default_factory=OpenModels)
    on_batch: Callable[[], None] = lambda: None
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext
    on_training_step: TrainProgress = lambda *_: None
    stopping: threading.Event = field(default_factory=threading.Event)
    stoppers: list[Callable[[], None]] = field(default_factory=list)
    closers: list[Callable[[], None]] = field(default_factory=list)
    ticks: list[Callable[[], None]] = field(default_factory=list)
    sparers: list[Callable[[], None]] = field(default_factory=list)

    def stop(self) -> None:
        """Ask everything that is under way to end."""
        self.stopping.set()
        for stopper in self.stoppers:
            stopper()

    def close(self) -> None:
        """Close what the services opened."""
        while self.closers:
            self.closers.pop()()


Start = Callable[[ServiceContext], Handlers]
"""Makes the handlers of a service."""
