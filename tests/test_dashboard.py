import socket
import threading

import pytest

import dashboard
from reading_room.panels import Panels


def test_it_listens_on_this_machine_only_unless_told(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    options = dashboard.parse([])
    assert (options.host, options.port, options.auth) == ("127.0.0.1", 7860, None)
    assert not options.pull  # nor asks the Hub for anything
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # what a Space sets
    assert dashboard.parse([]).host == "0.0.0.0"


def test_wrong_commands_are_sentences(tmp_path, capsys):
    assert dashboard.main(["--task", "lungs"]) == 2
    assert "Unknown task: 'lungs'" in capsys.readouterr().err
    assert dashboard.main(["--auth", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "plain").write_text("ann:secret\n")
    assert dashboard.main(["--auth", str(tmp_path / "plain")]) == 2
    assert "python -m reading_room.accounts" in capsys.readouterr().err
    assert dashboard.main(["--watch", str(tmp_path / "none"), "--task", "bone", "--flags", str(tmp_path)]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert dashboard.main(["--watch", str(tmp_path), "--blinded"]) == 2
    assert "Leave one of them out" in capsys.readouterr().err


def test_a_folder_for_uploads_that_cannot_be_is_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "uploads"))
    assert dashboard.main(["--flags", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_mcp_without_its_package_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    assert dashboard.main(["--mcp"]) == 2
    assert "requirements-mcp.txt" in capsys.readouterr().err


def test_a_folder_of_flags_that_takes_none_is_found_out_before_the_page_is_up(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert dashboard.main(["--task", "bone", "--flags", str(tmp_path / "file")]) == 2
    assert f"Nothing can be written to --flags {tmp_path / 'file'} (Not a directory)" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["70000", "-1", "abc"])
def test_a_port_that_is_none_is_a_sentence(port, monkeypatch, capsys):
    for words in ([f"--port={port}"], []):
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
        with pytest.raises(SystemExit):
            dashboard.main(words)
        assert f"'{port}' is no port; give a whole number from 0 to 65535" in capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dashboard.main(["--task", "bone", "--port", str(port), "--flags", str(tmp_path)]) == 2
    assert str(port) in capsys.readouterr().err


def test_the_models_load_once_the_page_is_up(monkeypatch):
    panels, asked, loaded = Panels(), [], threading.Event()
    monkeypatch.setattr(panels, "get", lambda task: (asked.append(task), loaded.set()))
    panels.warm("phantom")
    assert not loaded.wait(0.05)
    panels.begin()
    assert loaded.wait(10)
    assert asked == ["phantom"]
