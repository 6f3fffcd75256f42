"""Each service's role of PostgreSQL may do what its handlers do, and no more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql import roles
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.migrate import upgrade
from restmcts.adapters.sql.state import projects, requests, runs
from restmcts.adapters.sql.state.trees import NODES, TREES
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.access import Role
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, Sample, StepsProposed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, AnswerWaitingCalls
from restmcts.messages.events import RequestsAnswered
from restmcts.messages.wire import dump_response, load_proposal
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import Source
from restmcts_tree_search.handlers import TreeSearchHandlers
from restmcts_value_labeler.handlers import ValueLabelerHandlers
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import ProgrammingError
from starlette.testclient import TestClient

SECRET_ANSWER = "the true answer"
Ask = Callable[[str, str], list[object]]


@pytest.fixture(scope="module")
def owner(servers: Stack) -> Iterator[str]:
    """The URL of a database of its own, with a run in it."""
    url = make_url(servers.settings["RESTMCTS_DATABASE_URL"])
    server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE roles_test"))
    own = url.set(database="roles_test").render_as_string(hide_password=False)
    upgrade(own)
    database = Database(own)
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "a run", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("a question", SECRET_ANSWER)])
    database.close()
    yield own
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE roles_test WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def ask(owner: str, tmp_path: Path) -> Iterator[Ask]:
    """Run a statement as a service; return its rows."""
    urls = roles.set_up(owner, tmp_path)
    engines = {service: create_engine(url) for service, url in urls.items()}

    def run(service: str, statement: str) -> list[object]:
        with engines[service].begin() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []

    yield run
    for engine in engines.values():
        engine.dispose()


@pytest.mark.parametrize("service", sorted(roles.WITHOUT_ANSWERS))
def test_whoever_searches_or_proposes_cannot_read_true_answers(ask: Ask, service: str) -> None:
    assert ask(service, "SELECT question FROM problems")
    for column in ("answer", "solution", "*"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            ask(service, f"SELECT {column} FROM problems")


def test_the_labeler_reads_them(ask: Ask) -> None:
    assert SECRET_ANSWER in str(ask("value-labeler", "SELECT answer FROM problems"))


@pytest.mark.parametrize("service", sorted(roles.RIGHTS))
def test_no_service_changes_tables_or_other_roles(ask: Ask, service: str) -> None:
    for statement in (
        "CREATE TABLE mine (id int)",
        "DROP TABLE nodes",
        "ALTER ROLE restmcts PASSWORD 'known'",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY runs TO PROGRAM 'cat'",
    ):
        with pytest.raises(ProgrammingError):
            ask(service, statement)


@pytest.mark.parametrize("table", ["runs", "trees", "nodes", "problems", "outbox", "dead_letters", "workers"])
def test_the_dashboard_reads(ask: Ask, table: str) -> None:
    ask("dashboard", f"SELECT * FROM {table}")
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            ask("dashboard", statement)


def test_the_dashboard_may_retry_where_a_token_lets_people(owner: str, tmp_path: Path, ask: Ask) -> None:
    roles.set_up(owner, tmp_path, dashboard_retries=True)
    ask("dashboard", "DELETE FROM dead_letters")
    with pytest.raises(ProgrammingError, match="permission denied"):
        ask("dashboard", "DELETE FROM runs")
    named = "run_id, tree_id, node_id, subject, verdict, note, who, source, created_at"
    entered = f"INSERT INTO annotations ({named}) SELECT id, 1, 1, 'step', 'right', '', 'Ada', 'viewer', now() FROM runs LIMIT 1"
    ask("dashboard", entered)
    ask("dashboard", "DELETE FROM annotations")
    with pytest.raises(ProgrammingError, match="permission denied"):
        ask("trainer", entered)
    roles.set_up(owner, tmp_path)
    for forbidden in ("DELETE FROM dead_letters", entered):
        with pytest.raises(ProgrammingError, match="permission denied"):
            ask("dashboard", forbidden)


def test_a_call_of_a_tool_is_asked_and_answered_with_the_rights_of_its_services(owner: str, tmp_path: Path) -> None:
    urls = roles.set_up(owner, tmp_path)
    searches, answers, own = (Database(url) for url in (urls["tree-search"], urls["value-labeler"], owner))
    phase = SearchPhase("called", 1, "collect", "train", "policy", None, CotSettings(), tools=ToolSettings(max_calls=1))
    with own.transaction() as transaction:
        run_id = runs.create_run(transaction, "calls", "rest-mcts", 0, {})
        runs.add_problems(transaction, run_id, "train", [Problem("What is 3 * 9?", "27")])
        runs.add_checkpoint(transaction, run_id, "policy", "policy", "nowhere", "0")
        runs.add_phases(transaction, run_id, [phase])
    CoordinatorHandlers(own).advance_run(AdvanceRun(run_id=run_id))
    search = TreeSearchHandlers(searches)
    verifier = AnswerVerifier()
    with own.transaction() as transaction:
        tree_id = transaction.execute(select(TREES.c.id).where(TREES.c.run_id == run_id)).scalar_one()
    search.advance_trees(AdvanceTrees(tree_ids=(tree_id,)))
    for line in ("calc: 3*9\n", "The answer is 27\n"):
        with own.transaction() as transaction:
            claimed = requests.claim(transaction, RequestKind.PROPOSE, 10, 60.0)
            assert claimed is not None
            (request,) = claimed.requests
            sample = Sample((ProposedStep(line, 4, -1.0),), 4, ended=False)
            proposed = StepsProposed(load_proposal(request.payload).number, (sample,), 5)
            requests.answer(transaction, [(request, dump_response(proposed))])
        search.take_answers(RequestsAnswered())
        ValueLabelerHandlers(answers, FolderArtifactStore(tmp_path / "a"), verifier).answer_calls(AnswerWaitingCalls())
        search.take_answers(RequestsAnswered())
    with own.transaction() as transaction:
        steps = transaction.execute(
            select(NODES.c.step, NODES.c.origin).where(NODES.c.tree_id == tree_id).order_by(NODES.c.node_id)
        ).all()
    assert [tuple(step) for step in steps[1:]] == [
        ("calc: 3*9\n", "search"),
        ("result: 27\n", "observation"),
        ("The answer is 27\n", "search"),
    ]
    for database in (searches, answers, own):
        database.close()


def test_the_command_line_writes_every_table(ask: Ask) -> None:
    for table in ("runs", "problems", "trees", "dead_letters"):
        ask("cli", f"DELETE FROM {table} WHERE false")


def test_passwords_that_were_given_out_stay_and_files_are_not_for_everybody(owner: str, tmp_path: Path) -> None:
    assert roles.set_up(owner, tmp_path) == roles.set_up(owner, tmp_path)
    for service in roles.RIGHTS:
        assert (tmp_path / service / roles.FILE).stat().st_mode & 0o007 == 0


def test_the_dashboard_serves_projects_where_it_is_asked_to(owner: str, tmp_path: Path) -> None:
    administrator = Database(owner)
    with administrator.transaction() as transaction:
        projects.create_project(transaction, "physics")
        secret = projects.issue_token(transaction, "physics", "alice", Role.ADMIN)
    problems = [{"question": f"{number} + 1?", "answer": number + 1} for number in range(12)]
    url = roles.set_up(owner, tmp_path, dashboard_serves=True)["dashboard"]
    own = Database(url)
    source = Source(Database(url, read_only=True), "a test", writable=own, serves_api=True)
    client = TestClient(create_app(source), base_url="http://localhost", headers={"Authorization": f"Bearer {secret}"})

    def ask(path: str, body: object = None, method: str = "POST") -> int:
        return client.request(method, f"/api/v1{path}", json=body).status_code

    new = {"name": "sums", "spec": {"policy": "number-paths"}, "problems": problems, "paused": True}
    assert ask("/runs", new) == 201
    assert ask("/runs/sums/problems", {"problems": [{"question": "9 + 9?", "answer": 18}]}) == 200
    assert ask("/runs/sums/resume", {"max_tokens": 1000}) == 200
    assert ask("/runs/sums/extend", {"iterations": 9, "max_tokens": 2000}) == 200
    assert ask("/runs/sums/clone", {"name": "twin", "paused": True}) == 201
    assert ask("/runs/sums/tags", {"tags": ["paper"]}) == 200
    assert [ask(f"/runs/sums/{how}") for how in ("pause", "resume", "resume", "cancel")] == [200, 200, 409, 200]
    assert ask("/tokens", {"name": "bob", "role": "read"}) == 201
    assert ask("/tokens/bob", method="DELETE") == 204
    for path in (
        "project",
        "runs",
        "runs/sums",
        "runs/sums/trees",
        "runs/sums/checkpoints",
        "runs/sums/datasets",
        "audit",
    ):
        assert ask(f"/{path}", method="GET") == 200
    assert ask("/runs/%ff", method="GET") == ask("/trees/7", method="GET") == 404
    with administrator.transaction() as transaction:
        assert len(projects.audit(transaction, "physics", 99)) == 11
    roles.set_up(owner, tmp_path)
    assert ask("/runs", new | {"name": "more"}) == 503
    for database in (own, source.database, administrator):
        database.close()


STRANGE = "it's p@ss:word/%41#?\\:x"


@pytest.fixture
def strange_owner(owner: str) -> Iterator[str]:
    """A user who may do everything, by the name and with the password STRANGE."""
    engine = create_engine(owner, isolation_level="AUTOCOMMIT")
    name, password = STRANGE, STRANGE.replace("'", "''")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE \"{name}\" SUPERUSER LOGIN PASSWORD '{password}'".replace("%", "%%"))
        yield name
        connection.exec_driver_sql(f'DROP OWNED BY "{name}"'.replace("%", "%%"))
        connection.exec_driver_sql(f'DROP ROLE "{name}"'.replace("%", "%%"))
    engine.dispose()


def test_names_and_passwords_of_the_owner_and_of_services_may_have_any_signs(
    owner: str, strange_owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_url(owner).set(username=roles.role_of("trainer"), password=STRANGE)
    file = tmp_path / "trainer" / roles.FILE
    file.parent.mkdir()
    file.write_text(own.render_as_string(hide_password=False))
    address = make_url(owner).host, make_url(owner).port
    monkeypatch.setenv("RESTMCTS_DATABASE_URL", f"postgresql+psycopg://{address[0]}:{address[1]}/roles_test")
    monkeypatch.setenv("RESTMCTS_DATABASE_USER", strange_owner)
    monkeypatch.setenv("RESTMCTS_DATABASE_PASSWORD", STRANGE)
    monkeypatch.setenv("RESTMCTS_SECRETS_DIR", str(tmp_path))
    roles.main()
    for service in ("trainer", "coordinator"):
        engine = create_engine((tmp_path / service / roles.FILE).read_text())
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_user")).scalar() == roles.role_of(service)
        engine.dispose()


def test_what_is_no_url_of_a_database_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTMCTS_DATABASE_URL", "postgresql+psycopg://admin:pa/ss@db.example:5432x/restmcts")
    with pytest.raises(SystemExit):
        roles.main()
    said = capsys.readouterr().err
    assert "RESTMCTS_DATABASE_PASSWORD" in said and "admin" not in said and "ss@" not in said
