import socket

import pytest

import dashboard


def test_it_listens_on_this_machine_only_unless_told(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    options = dashboard.parse([])
    assert (options.host, options.port, options.auth) == ("127.0.0.1", 7860, None)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # what a Space sets
    assert dashboard.parse([]).host == "0.0.0.0"


def test_accounts(tmp_path):
    path = tmp_path / "accounts.txt"
    path.write_text("# readers\nann:secret:with:colons\n\nbob:x\n")
    assert dashboard.read_accounts(path) == [("ann", "secret:with:colons"), ("bob", "x")]
    path.write_text("ann:secret\nbob\n")
    with pytest.raises(ValueError, match="line 2"):
        dashboard.read_accounts(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="no account"):
        dashboard.read_accounts(path)


def test_wrong_commands_are_sentences(tmp_path, capsys):
    assert dashboard.main(["--task", "lungs"]) == 2
    assert "Unknown task: 'lungs'" in capsys.readouterr().err
    assert dashboard.main(["--auth", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dashboard.main(["--task", "bone", "--port", str(port), "--flags", str(tmp_path)]) == 2
    assert str(port) in capsys.readouterr().err
