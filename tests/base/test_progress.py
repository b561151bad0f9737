"""Progress bars, as a user reads them in a terminal or in the log of a headless run."""

import pytest

from dped_lib.base import progress


@pytest.mark.parametrize("headless", [False, True])
def test_a_bar_in_per_cent_shows_no_units(capsys, monkeypatch, headless):
    if headless:
        monkeypatch.setenv(progress.HEADLESS, "1")
    with progress.bar(label="cat.jpg", unit="row", total=1736, percent=True) as shown:
        shown.update(868)
        shown.refresh()
    said = capsys.readouterr().err
    assert "cat.jpg:  50 % |" in said and "row" not in said and "1736" not in said
