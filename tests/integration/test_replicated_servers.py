"""One model behind several servers that speak the published protocols: the answers of one server,
each question's requests at one place, and a run that loses a server.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import ClosableProposer, open_policy
from restmcts.adapters.models.http_scorer.opening import ReplicatedScorer
from restmcts.adapters.models.http_scorer.scorer import HttpScorer
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposeSteps, ScoreSteps
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.errors import ServerUnavailableError
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import parse_reference
from restmcts.settings import PolicyServerSettings
from restmcts.testing.contracts.models import check_step_proposer
from restmcts.testing.policy_servers import PolicyServer
from restmcts.testing.prm_models import BUILDERS
from restmcts.testing.scoring_servers import ScoringServer
from restmcts_local.local_run import LocalRun, ModelOptions
from restmcts_prm_scorer.opening import open_scorer

SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=12, max_solution_tokens=30)
QUESTIONS = [f"question {number % 32}" for number in range(64)]
Open = Callable[..., ClosableProposer]
REQUESTS = [ProposeSteps(number, ("ab\n",), 2, 1, seed=number) for number in range(64)]


@pytest.fixture
def fleet() -> Iterator[list[PolicyServer]]:
    with PolicyServer() as one, PolicyServer() as two, PolicyServer() as three:
        yield [one, two, three]


def uri_of(servers: Sequence[PolicyServer], query: str = "") -> str:
    return f"openai+http://{','.join(server.host for server in servers)}/v1?model={servers[0].model}{query}"


@pytest.fixture
def opened() -> Iterator[Open]:
    proposers: list[ClosableProposer] = []

    def open_them(servers: Sequence[PolicyServer], query: str = "&concurrency=4") -> ClosableProposer:
        settings = PolicyServerSettings(
            policy_timeout_seconds=5.0,
            policy_retry_seconds=0.0,
            policy_tokens={server.host: SecretStr(f"token of {server.host}") for server in servers},
        )
        proposers.append(open_policy(parse_address(uri_of(servers, query)), settings))
        return proposers[-1]

    yield open_them
    for proposer in proposers:
        proposer.close()


def questions_of(server: PolicyServer) -> set[str]:
    return {str(body["prompt"]).split("\n")[0] for body in server.bodies}


def test_they_keep_the_contract(fleet: list[PolicyServer], opened: Open) -> None:
    check_step_proposer(lambda: opened(fleet), "question", ("ab\n", "1\n"))


def test_they_give_the_answers_of_one_and_each_has_questions_of_its_own(
    fleet: list[PolicyServer], opened: Open
) -> None:
    proposer, alone = opened(fleet, "&concurrency=64"), opened(fleet[:1])
    found = proposer.propose(QUESTIONS, REQUESTS, SETTINGS)
    asked = [questions_of(server) for server in fleet]
    assert found == alone.propose(QUESTIONS, REQUESTS, SETTINGS)
    assert sum(map(len, asked)) == len(set.union(*asked)) == 32, "no question was sent to two"
    assert all(asked)
    for server in fleet:
        assert set(server.authorizations) == {f"Bearer token of {server.host}"}


def test_one_that_is_down_or_serves_another_model_leaves_its_requests_to_the_others(
    fleet: list[PolicyServer], opened: Open
) -> None:
    alone, proposer = opened(fleet[:1]), opened(fleet)
    expected = alone.propose(QUESTIONS, REQUESTS, SETTINGS)
    fleet[1].model = "another"
    fleet[2].faults = ["500"] * 1000
    assert proposer.propose(QUESTIONS, REQUESTS, SETTINGS) == expected
    assert questions_of(fleet[1]) <= {"1"}, "what serves another model is asked for nothing"
    fleet[0].model = "another"
    with pytest.raises(ServerUnavailableError):
        proposer.propose(QUESTIONS, REQUESTS, SETTINGS)


def test_a_name_that_has_addresses_is_as_many_servers(fleet: list[PolicyServer]) -> None:
    port = fleet[0].host.partition(":")[2]
    settings = PolicyServerSettings(
        policy_retry_seconds=0.0, policy_tokens={f"localhost:{port}": SecretStr("of the name")}
    )
    proposer = open_policy(parse_address(f"openai+http://localhost:{port}/v1?model=tiny&replicas=dns"), settings)
    answers = proposer.propose(QUESTIONS, REQUESTS, SETTINGS)
    assert [answer.number for answer in answers] == [request.number for request in REQUESTS]
    assert set(fleet[0].authorizations) == {"Bearer of the name"}
    proposer.close()


def test_scores_too_come_from_several_servers(tmp_path: Path) -> None:
    build, options = BUILDERS["qwen-math-prm"]
    folder = tmp_path / "prm"
    build(folder)
    prm = load_prm(parse_reference(f"{folder}{options}"), folder)
    requests = [ScoreSteps(number, ("a\n",), (("b\n",), ("c + d\n",))) for number in range(64)]
    settings = WorkerModelSettings(10_000, 0, servers=PolicyServerSettings(policy_retry_seconds=0.0))
    artifacts = FolderArtifactStore(tmp_path / "artifacts")
    with (
        ScoringServer(model="prm", prm=prm, good_class=prm.format.good_class) as one,
        ScoringServer(model="prm", prm=prm, good_class=prm.format.good_class) as two,
    ):
        query = f"?model=prm&format=qwen-math-prm&tokenizer={folder}"
        both = open_scorer(f"pooling+http://{one.host},{two.host}{query}", artifacts, settings)
        alone = open_scorer(f"pooling+http://{one.host}{query}", artifacts, settings)
        expected = alone.score(QUESTIONS, requests)
        one.bodies.clear()
        assert both.score(QUESTIONS, requests) == expected
        assert one.bodies and two.bodies
        two.model = "another"
        assert both.score(QUESTIONS, requests) == expected
        for scorer in (both, alone):
            assert isinstance(scorer, (HttpScorer, ReplicatedScorer))
            scorer.close()


def test_a_run_goes_on_when_a_server_dies_and_gets_the_trees_that_one_server_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTMCTS_POLICY_RETRY_SECONDS", "0.5")
    problems = {"train": [Problem(f"question {number}", "1") for number in range(48)]}
    search = SelfConsistencySettings(num_samples=3)
    phase = SearchPhase("search", 1, "collect", "train", "base", None, search, generation=SETTINGS)

    def texts(folder: Path, uri: str) -> list[str]:
        with LocalRun(folder, ModelOptions()) as run:
            run_id = run.create("served", "search", 0, {}, problems, {"base": ("policy", uri)}, [phase])
            run.run(run_id)
            with run.database.transaction() as transaction:
                (numbers,) = queries.phase_numbers(transaction, run_id)
                assert (numbers.state, numbers.num_done, numbers.num_failed) == ("done", 48, 0)
                listed = queries.list_trees(transaction, run_id, limit=100)
                trees = [queries.tree_with_nodes(transaction, tree.id) for tree in listed]
                return sorted(node.step for tree in trees for node in tree.nodes)

    with PolicyServer() as one, PolicyServer() as two:
        dying = PolicyServer()
        dying.__enter__()

        def die_after_some() -> None:
            if len(dying.bodies) > 2:
                dying.faults.extend(["drop"] * 100)

        dying.on_request = die_after_some
        alone = texts(tmp_path / "alone", uri_of([one]))
        assert texts(tmp_path / "several", uri_of([one, two, dying], "&concurrency=2")) == alone
        assert len(dying.bodies) > 2 and two.bodies
        dying.__exit__()
