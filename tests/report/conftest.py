import pytest


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The folder where figures of the rig at preset smoke are saved."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    return tmp_path / "figures" / "rig-smoke"
