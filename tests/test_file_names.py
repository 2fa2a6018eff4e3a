import logging

from xray_models import file_names
from xray_models.file_names import hash_name


def test_a_name_is_hashed_alike_on_one_machine_and_otherwise_on_another(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "here"))
    first = hash_name("DOE_JANE.dcm")
    assert hash_name("DOE_JANE.dcm") == first != hash_name("DOE_JOHN.dcm")
    assert (tmp_path / "here" / "second-read" / "name.key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "there"))
    assert hash_name("DOE_JANE.dcm") != first


def test_a_home_that_cannot_be_written_to_keeps_no_image_from_being_read(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    file_names._make_spare.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert hash_name("DOE_JANE.dcm") == hash_name("DOE_JANE.dcm")
    assert caplog.text.count("cannot be used") == 1


def test_a_name_of_another_encoding_has_a_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert hash_name("caf\udce9.png").startswith("name-")
