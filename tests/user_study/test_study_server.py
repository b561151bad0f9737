"""The addresses that the program prints for the study's page."""

import pytest

from dped_lib.user_study import server


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
