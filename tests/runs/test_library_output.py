"""What libraries print is hidden, unless it is a warning, the code fails, or --verbose is given."""

import pytest

from response_generator.runs import library_output


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv(library_output.VERBOSE_VARIABLE, "0")


def test_banners_are_hidden_and_warnings_are_shown(capsys):
    with library_output.hide_prints():
        print("Library 1.2.3: training on CPU.")
        print("Library: Warning: no such file, using another.")
    assert capsys.readouterr().out == "Library: Warning: no such file, using another.\n"


def test_after_an_exception_everything_is_shown(capsys):
    with pytest.raises(ValueError), library_output.hide_prints():
        print("loading the second shard")
        raise ValueError
    assert capsys.readouterr().err == "loading the second shard\n"


def test_verbose_shows_everything(capsys):
    library_output.set_verbose(True)
    with library_output.hide_prints():
        print("Library 1.2.3: training on CPU.")
    assert capsys.readouterr().out == "Library 1.2.3: training on CPU.\n"
