"""Log-ins: only hashes are kept, htpasswd's own are taken, and what is wrong with a file is said without a password."""

import pytest

from reading_room import accounts
from reading_room.accounts import AccountError, main, put_account, read_accounts


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(accounts, "_ROUNDS", 4)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "accounts.txt"


def test_an_account_that_was_put_can_log_in_and_nobody_else(file):
    put_account(file, "ann", "long:enough")
    put_account(file, "bob", "another one")
    found = read_accounts(file)
    assert len(found) == 2
    assert found.check("ann", "long:enough") and found.check("bob", "another one")
    assert not found.check("ann", "another one")
    assert not found.check("eve", "another one")
    assert not found.check("ann", "")


def test_a_file_holds_no_password_and_is_its_owners_alone(file):
    put_account(file, "ann", "long:enough")
    assert "enough" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_changed_password_replaces_the_old_one_and_comments_stay(file):
    file.write_text("# ward 3\n")
    put_account(file, "ann", "first password")
    put_account(file, "ann", "second password")
    found = read_accounts(file)
    assert (len(found), found.check("ann", "first password"), found.check("ann", "second password")) == (1, False, True)
    assert file.read_text().startswith("# ward 3\n")


def test_hashes_of_htpasswd_are_taken(file):
    put_account(file, "ann", "long enough")
    file.write_text(file.read_text().replace("$2b$", "$2y$") + "\n# comment\n\n")
    assert read_accounts(file).check("ann", "long enough")


def test_what_an_editor_puts_before_the_first_name_is_no_part_of_it(file):
    put_account(file, "ann", "long enough")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_accounts(file).check("ann", "long enough")
    put_account(file, "ann", "another one")
    assert len(read_accounts(file)) == 1


def test_a_hash_that_cannot_be_checked_is_refused_before_anybody_logs_in(file):
    put_account(file, "ann", "long enough")
    right = file.read_text()
    for wrong in (right.replace("$04$", "$99$"), right.replace("$04$", "$03$"), f"ann:$2b$04${'z' * 53}\n"):
        file.write_text(wrong)
        with pytest.raises(AccountError, match="line 1"):
            read_accounts(file)


def test_a_file_in_another_encoding_is_a_sentence(file):
    file.write_bytes("jürgen:x\n".encode("latin-1"))
    with pytest.raises(AccountError, match="not UTF-8 text"):
        read_accounts(file)


def test_bytes_beyond_those_that_bcrypt_looks_at_do_not_pass(file):
    put_account(file, "ann", "x" * 72)
    assert read_accounts(file).check("ann", "x" * 72)
    assert not read_accounts(file).check("ann", "x" * 73)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ann:secret\n", "line 1: expected name:hash"),
        ("# none\n", "has no account"),
        ("\nann\n", "line 2"),
        ("ann:{0}\nann:{0}\n", "line 2: 'ann' has a line already"),
        ("bob:{0}\n ann:{0}\n", "line 2: ' ann' has a space at an end"),
        ("ann :{0}\n", "line 1: 'ann ' has a space at an end"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_secrets(file, text, words):
    put_account(file, "x", "long enough")
    file.write_text(text.format(file.read_text().strip().partition(":")[2]))
    with pytest.raises(AccountError) as caught:
        read_accounts(file)
    assert words in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "password"),
    [("", "x" * 8), ("a:b", "x" * 8), ("#a", "x" * 8), (" a", "x" * 8), ("a ", "x" * 8), ("a", "short")],
)
def test_names_and_passwords_that_cannot_be_are_refused(file, name, password):
    with pytest.raises(AccountError):
        put_account(file, name, password)
    assert not file.exists()


def test_the_command_asks_twice(file, monkeypatch, capsys):
    said = iter(["long enough", "long enuff", "long enough", "long enough"])
    monkeypatch.setattr(accounts.getpass, "getpass", lambda _: next(said))
    assert main([str(file), "ann"]) == 2 and not file.exists()
    assert "differ" in capsys.readouterr().err
    assert main([str(file), "ann"]) == 0
    assert read_accounts(file).check("ann", "long enough")
