"""One composition: what a Celery worker, the local run and the tests make their handlers from."""

from pathlib import Path
from types import MethodType, ModuleType

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import (
    MODELS_AT_ONCE,
    ServiceContext,
    ServiceSettings,
    WorkerModelSettings,
    settings_of_stack,
)
from restmcts.messages.base import Queue
from restmcts.messages.routes import MESSAGES, queue_of
from restmcts.settings import PolicyServerSettings, Settings
from restmcts_local.services import SERVICES, start

QUEUES = {
    "restmcts_coordinator": Queue.COORDINATOR,
    "restmcts_policy_generator": Queue.POLICY,
    "restmcts_prm_scorer": Queue.PRM,
    "restmcts_trainer": Queue.TRAINER,
    "restmcts_tree_search": Queue.SEARCH,
    "restmcts_value_labeler": Queue.LABELS,
}


@pytest.fixture
def context(tmp_path: Path) -> ServiceContext:
    artifacts = FolderArtifactStore(tmp_path / "artifacts")
    return ServiceContext(Database(f"sqlite:///{tmp_path / 'run.db'}"), artifacts, ServiceSettings(tmp_path))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.__name__.partition(".")[0])
def test_a_service_handles_the_messages_of_its_queue_and_no_others(
    service: ModuleType, context: ServiceContext
) -> None:
    queue = QUEUES[service.__name__.partition(".")[0]]
    assert set(service.start(context)) == {name for name in MESSAGES if queue_of(name) == queue}
    context.close()


def test_the_merged_handlers_cover_every_message(context: ServiceContext) -> None:
    assert start(context).keys() == MESSAGES.keys()
    context.close()


def test_what_services_opened_is_closed_last_first_and_once(context: ServiceContext) -> None:
    closed: list[int] = []
    context.closers.extend([lambda: closed.append(1), lambda: closed.append(2)])
    context.close()
    context.close()
    assert closed == [2, 1]


def test_both_kinds_of_model_give_up_memory_before_a_training(context: ServiceContext) -> None:
    start(context)
    owners = {spare.__self__.__class__.__name__ for spare in context.sparers if isinstance(spare, MethodType)}
    assert owners == {"PolicyGeneratorHandlers", "PrmScorerHandlers"}
    context.close()


def test_being_asked_to_end_reaches_every_service_that_wants_to_know(context: ServiceContext) -> None:
    stopped: list[bool] = []
    context.stoppers.append(lambda: stopped.append(context.stopping.is_set()))
    context.stop()
    assert stopped == [True]


def test_a_worker_without_further_settings_works_by_the_defaults() -> None:
    servers = PolicyServerSettings()
    required = {"database_url": "sqlite://", "redis_url": "redis://nowhere", "s3_endpoint": "nowhere"}
    settings = Settings(**required, _env_file=None, _secrets_dir=None)  # type: ignore[call-arg, arg-type]
    expected = ServiceSettings(
        Path("run/training"), WorkerModelSettings(servers=servers), max_models_at_once=MODELS_AT_ONCE
    )
    assert settings_of_stack(settings, servers) == expected
