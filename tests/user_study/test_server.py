"""What the program prints when it serves the study's page: addresses, and the command that analyses the answers."""

import socket
import sys
from types import SimpleNamespace

import pytest

from dped_lib.app import cli
from dped_lib.base.errors import DpedError
from dped_lib.user_study import make_pictures, server


@pytest.mark.parametrize(
    ("address", "networks", "printed"),
    [
        ("127.0.0.1", ["192.168.1.20"], "http://localhost:8866/"),
        ("192.168.1.20", ["192.168.1.20"], "http://192.168.1.20:8866/"),
        ("0.0.0.0", ["192.168.1.20"], "http://localhost:8866/; for other devices http://192.168.1.20:8866/"),
        (
            "0.0.0.0",
            ["10.0.0.3", "192.168.1.20"],
            "http://localhost:8866/; for other devices http://10.0.0.3:8866/ or http://192.168.1.20:8866/",
        ),
        ("0.0.0.0", [], "http://localhost:8866/"),
    ],
)
def test_a_subject_elsewhere_is_given_an_address_that_works_there(monkeypatch, address, networks, printed):
    monkeypatch.setattr(server.localinterfaces, "public_ips", lambda: networks)
    assert server.urls(address, 8866) == printed


@pytest.mark.parametrize(
    ("options", "analysis"),
    [
        ("", "--dataset rig --preset cpu"),
        ("--dataset city100 --seed 2", "--dataset city100 --preset cpu --seed 2"),
        ("--folder F --preset smoke --scenes 5", "--preset smoke --set folder=F --set scenes=5"),
        ("--answers A --network authors", "--dataset rig --preset cpu --set answers=A --set network=authors"),
    ],
)
def test_the_command_that_is_printed_analyses_these_answers(monkeypatch, tmp_path, capsys, options, analysis):
    """A study with other pictures, or another folder of answers, is another study."""
    monkeypatch.chdir(tmp_path)
    pictures = SimpleNamespace(digest="0" * 16, questions=[])
    monkeypatch.setattr(make_pictures, "open_or_make", lambda *_: pictures)
    monkeypatch.setattr(server, "serve", lambda *_: 0)
    monkeypatch.setattr(server, "check_free", lambda *_: None)  # another study may run on this machine
    monkeypatch.setattr(sys, "argv", ["dped", "study", *options.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert f"run 06_user_study {analysis} analyses them\n" in capsys.readouterr().out


@pytest.fixture
def taken() -> int:
    """A port of this machine at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_is_said_before_the_pictures_are_made(monkeypatch, capsys, taken):
    monkeypatch.setattr(make_pictures, "open_or_make", lambda *_: pytest.fail("this takes minutes"))
    monkeypatch.setattr(sys, "argv", ["dped", "study", "--port", str(taken)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert f"port {taken} of 127.0.0.1: cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["no.such.host.invalid", "x" * 70])
def test_an_address_of_nobody_is_said(address):
    with pytest.raises(DpedError, match=f"of {address}: cannot be used .* --address"):
        server.check_free(8866, address)


def test_a_free_port_stays_free():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    server.check_free(port, "127.0.0.1")
    socket.create_server(("127.0.0.1", port)).close()
