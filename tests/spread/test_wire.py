"""What crosses between processes: whole messages, known senders, tickets that lose nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.spec.load import load_experiments, resolved_json
from sia_flow.spread.ticket import Ticket
from sia_flow.spread.wire import Address, Door, Line, own_address

ROOT = Path(__file__).resolve().parents[2]


def pair(host: str | None) -> tuple[Door, Line, Line]:
    door = Door(host)
    near: list[Line] = []
    thread = threading.Thread(target=lambda: near.append(door.open()))
    thread.start()
    far = door.address.call()
    thread.join()
    return door, near[0], far


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_messages_arrive_whole_and_in_order(host: str | None) -> None:
    door, near, far = pair(host)
    sent = [{"text": "x" * size, "line": "a\nb"} for size in (0, 10, 200_000)]
    thread = threading.Thread(target=lambda: [far.send(message) for message in sent] + [far.close()])
    thread.start()
    assert list(near.messages()) == sent
    thread.join()
    door.close()


def test_who_sends_no_messages_is_hung_up_on() -> None:
    door, near, far = pair(None)
    far._socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert near.take() is None
    door.close()


def test_only_the_secret_opens() -> None:
    door = Door()
    assert door.knows({"secret": door.address.secret})
    assert not door.knows({"secret": ""})
    assert not door.knows({"secret": None})
    assert not door.knows({})
    assert door.address.secret not in repr(door.address)
    door.close()


def test_a_dead_address_is_said() -> None:
    with pytest.raises(InfrastructureError, match="cannot reach the experiment"):
        Address("/nowhere/door").call()


def test_this_machine_finds_its_own_number() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_ticket_keeps_an_experiment_whole(path: Path) -> None:
    for experiment in load_experiments(
        path, ["spread={type: dask, jobs: 3}", "budget.prices={m: {input: 1, output: 2}}"]
    ):
        ticket = Ticket("w1", Address("h", 7, "s"), Path("/p"), experiment, "http://h")
        assert "\n" not in ticket.to_json()
        assert Ticket.from_json(ticket.to_json()) == ticket


def test_spreading_is_no_part_of_what_an_experiment_is() -> None:
    path = ROOT / "specs/denoise.yaml"
    (plain,), (spread,) = load_experiments(path), load_experiments(path, ["spread.jobs=4"])
    assert spread.spec.spread is not None
    assert (spread.spec.spread.type, spread.spec.spread.jobs) == ("processes", 4)
    assert resolved_json(plain) == resolved_json(spread)
