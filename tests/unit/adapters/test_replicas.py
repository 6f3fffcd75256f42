"""Requests of one model over several servers: who gets which, and who gets them when one fails."""

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.adapters.models import replicas as module
from restmcts.adapters.models.replicas import OVERLOAD, Replicas, hosts_now, shares_of
from restmcts.errors import ModelError, ServerUnavailableError

HOSTS = ["one:80", "two:80", "three:80"]
names = st.lists(st.text(max_size=3), min_size=1, max_size=5, unique=True)


class Client:
    """Answers with its own name, unless it is down."""

    def __init__(self, host: str, down: set[str]) -> None:
        self.host, self.down, self.closed, self.asked = host, down, False, 0

    def close(self) -> None:
        self.closed = True

    def ask(self, questions: Sequence[str], requests: Sequence[int]) -> Sequence[tuple[str, str, int]]:
        self.asked += 1
        if self.host in self.down:
            raise ServerUnavailableError(f"{self.host} is down")
        return [(self.host, question, request) for question, request in zip(questions, requests, strict=True)]


class Fleet:
    """Servers that may go down or away."""

    def __init__(self) -> None:
        self.hosts, self.down, self.clients = list(HOSTS), set[str](), dict[str, Client]()
        self.replicas = Replicas(lambda: self.hosts, self.open, concurrency=1)

    def open(self, host: str) -> Client:
        self.clients[host] = Client(host, self.down)
        return self.clients[host]

    def answers(self, questions: Sequence[str]) -> list[tuple[str, str, int]]:
        found = dict(self.replicas.answers(questions, list(range(len(questions))), Client.ask))
        assert sorted(found) == list(range(len(questions))), "each request is answered once"
        assert [(question, number) for _, question, number in map(found.get, sorted(found))] == [  # type: ignore[misc]
            (question, number) for number, question in enumerate(questions)
        ]
        return [found[place] for place in sorted(found)]


QUESTIONS = [f"question {number % 12}" for number in range(48)]


@given(st.lists(st.text(max_size=4), max_size=60), names, st.integers(1, 8))
def test_every_question_has_one_server_and_none_has_more_than_its_room(
    questions: list[str], hosts: list[str], concurrency: int
) -> None:
    shares = shares_of(questions, hosts, concurrency)
    assert sorted(place for share in shares.values() for place in share) == list(range(len(questions)))
    room = max(concurrency, OVERLOAD * len(questions) / len(hosts) + 1)
    assert all(0 < len(share) <= room for share in shares.values())
    assert shares == shares_of(questions, hosts[::-1], concurrency), "the order of servers does not matter"


@given(st.lists(st.text(max_size=4), min_size=1, max_size=30), names)
def test_with_room_a_question_stays_with_its_server_when_another_leaves(questions: list[str], hosts: list[str]) -> None:
    room = len(questions)
    before = {place: host for host, share in shares_of(questions, hosts, room).items() for place in share}
    assert len({(text, before[place]) for place, text in enumerate(questions)}) == len(set(questions))
    if len(hosts) > 1:
        after = shares_of(questions, hosts[1:], room)
        moved = [place for host, share in after.items() for place in share if before[place] != host]
        assert all(before[place] == hosts[0] for place in moved)


def test_questions_are_spread_over_the_servers() -> None:
    shares = shares_of([f"question {number}" for number in range(3000)], HOSTS, 3000)
    assert all(900 < len(share) < 1100 for share in shares.values())


def test_each_answer_comes_from_the_server_of_its_question() -> None:
    fleet = Fleet()
    first = fleet.answers(QUESTIONS)
    assert {host for host, *_ in first} == set(HOSTS)
    assert fleet.answers(QUESTIONS) == first


def test_a_server_that_fails_leaves_its_requests_to_the_others_and_is_left_alone_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    fleet = Fleet()
    first = fleet.answers(QUESTIONS)
    fleet.down.add("two:80")
    without = fleet.answers(QUESTIONS)
    assert {host for host, *_ in without} == {"one:80", "three:80"}
    asked = fleet.clients["two:80"].asked
    fleet.answers(QUESTIONS)
    assert fleet.clients["two:80"].asked == asked, "it is asked nothing for now"
    fleet.down.clear()
    now[0] += module.SECONDS_AWAY
    assert fleet.answers(QUESTIONS) == first, "it is back"


def test_without_any_server_requests_wait_and_each_was_asked() -> None:
    fleet = Fleet()
    fleet.down.update(HOSTS)
    for _ in range(2):
        with pytest.raises(ServerUnavailableError, match="is down"):
            fleet.answers(QUESTIONS)
    assert all(client.asked == 2 for client in fleet.clients.values()), "where all are away, all are asked"
    fleet.hosts.clear()
    with pytest.raises(ServerUnavailableError, match="none of the model's servers is there"):
        fleet.answers(QUESTIONS)


def test_what_is_no_servers_fault_is_nobody_elses_work() -> None:
    fleet = Fleet()

    def refuse(client: Client, questions: Sequence[str], requests: Sequence[Any]) -> Sequence[Any]:
        client.asked += 1
        raise ModelError("too long")

    with pytest.raises(ModelError, match="too long"):
        list(fleet.replicas.answers(["a"], [0], refuse))
    assert sum(client.asked for client in fleet.clients.values()) == 1


def test_servers_come_and_go() -> None:
    fleet = Fleet()
    fleet.answers(QUESTIONS)
    fleet.hosts = ["one:80", "four:80"]
    counts = Counter(host for host, *_ in fleet.answers(QUESTIONS))
    assert set(counts) == {"one:80", "four:80"}
    assert {host for host, client in fleet.clients.items() if client.closed} == {"two:80", "three:80"}
    fleet.replicas.close()
    assert all(client.closed for client in fleet.clients.values())


def test_the_addresses_of_a_name_are_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str, port: int, **_: object) -> list[Any]:
        assert (name, port) == ("vllm", 8000)
        kinds = (socket.AF_INET6, ("fd00::2", port, 0, 0)), (socket.AF_INET, ("10.0.0.3", port))
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in kinds]

    monkeypatch.setattr(module.socket, "getaddrinfo", found)
    assert hosts_now("http://vllm:8000/v1", by_name=True)() == ["10.0.0.3:8000", "[fd00::2]:8000"]
    assert hosts_now("http://one:1,two/v1", by_name=False)() == ("one:1", "two")


def test_a_name_without_an_address_is_a_server_that_is_away() -> None:
    with pytest.raises(ServerUnavailableError, match=r"nobody\.invalid has no address now"):
        hosts_now("http://nobody.invalid:8000", by_name=True)()
