"""A flag is taken back once, by who saved it, and only while nobody has decided it."""

import threading
from types import SimpleNamespace

import pytest

from reading_room import review
from reading_room.earlier import History
from reading_room.withdrawals import Withdrawals
from tests.test_flags import TASK, flag
from xray_models import flags
from xray_models.flags import FlagError, Ledger
from xray_models.images import from_pixels


@pytest.fixture
def kept(tmp_path, image):
    """A ledger with one flag that Ann saved."""
    ledger = Ledger(tmp_path / "flags")
    given = flag(image, flag_id="flag-1", reader="AB", source_name_hash="name-1", consensus_label="Normal")
    ledger.append(given, image, TASK)
    withdrawals = Withdrawals(ledger, History(ledger.root))
    withdrawals.remember("ann", given)
    return SimpleNamespace(ledger=ledger, flag=given, withdrawals=withdrawals)


def count(kept):
    return len(flags.read_flags(kept.ledger.root))


def test_the_row_is_the_readers_own_decision(kept):
    before = (kept.ledger.folder / "metadata.csv").read_bytes()
    row_id = kept.withdrawals.withdraw("ann", "flag-1", TASK)
    assert (kept.ledger.folder / "metadata.csv").read_bytes().startswith(before)
    row = flags.read_flags(kept.ledger.root).set_index("flag_id").loc[row_id]
    assert (row["decides"], row["status"], row["reason"]) == ("flag-1", "rejected", "withdrawn")
    assert (row["reader"], row["source_name_hash"], row["consensus_label"]) == ("AB", "name-1", "Normal")


@pytest.mark.parametrize("who", ["bob", ""])
def test_nobody_takes_back_anothers_flag(kept, who):
    kept.withdrawals.remember(who, kept.flag)  # who sends the same id again does not own it
    with pytest.raises(FlagError, match="by the reader who saved it"):
        kept.withdrawals.withdraw(who, "flag-1", TASK)
    assert count(kept) == 1


def test_an_unnamed_client_takes_nothing_back(kept, image):
    kept.withdrawals.remember("", flag(image, flag_id="flag-2"))
    with pytest.raises(FlagError, match="by the reader who saved it"):
        kept.withdrawals.withdraw("", "flag-2", TASK)


def test_an_id_is_taken_for_good_whatever_its_image_and_whoever_saved_it(kept, image):
    """Also after a restart, when nothing but the ledger knows of it."""
    row_id = kept.withdrawals.withdraw("ann", "flag-1", TASK)
    later = Withdrawals(Ledger(kept.ledger.root), History(kept.ledger.root))
    other = from_pixels(image.pixels[::-1].copy())
    for taken in ("flag-1", row_id):
        with pytest.raises(FlagError, match=f"flag_id {taken!r} is that of a flag in the ledger"):
            later.refuse_taken("", flag(other, flag_id=taken))
    with pytest.raises(FlagError, match="leave it out"):
        later.refuse_taken("", flag(image, flag_id=row_id))
    later.refuse_taken("", kept.flag)  # the same flag, sent again
    later.refuse_taken("", flag(other, flag_id="flag-2"))


def test_many_at_once_write_one_row(kept):
    said, start = [], threading.Barrier(8)

    def withdraw():
        start.wait()
        try:
            said.append(kept.withdrawals.withdraw("ann", "flag-1", TASK))
        except FlagError as error:
            said.append(str(error))

    threads = [threading.Thread(target=withdraw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(kept) == 2
    assert sum("withdrawn already" in text for text in said) == 7


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_what_was_decided_is_not_taken_back(kept, verdict):
    review.decide(kept.ledger, TASK, "flag-1", verdict, "Chief")
    with pytest.raises(FlagError, match=f"was {verdict} by Chief meanwhile"):
        kept.withdrawals.withdraw("ann", "flag-1", TASK)
    assert count(kept) == 2


def test_a_decision_is_no_flag_to_take_back(kept, image):
    kept.withdrawals.remember("ann", flag(image, flag_id="flag-2", decides="flag-1"))
    with pytest.raises(FlagError, match="by the reader who saved it"):
        kept.withdrawals.find("ann", "flag-2")


def test_an_image_that_is_gone_is_said(kept, image):
    (kept.ledger.folder / f"{image.sha256}.png").unlink()
    with pytest.raises(FlagError, match="folder any more"):
        kept.withdrawals.withdraw("ann", "flag-1", TASK)
    assert count(kept) == 1


def test_the_oldest_is_forgotten_first(kept, image):
    few = Withdrawals(kept.ledger, kept.withdrawals.history, capacity=2)
    for number in range(3):
        few.remember("ann", flag(image, flag_id=f"f{number}"))
    with pytest.raises(FlagError, match="by the reader who saved it"):
        few.find("ann", "f0")
    assert [few.find("ann", name).flag_id for name in ("f1", "f2")] == ["f1", "f2"]


def test_the_last_open_flag_of_an_image_is_found_for_its_reader(kept, image):
    """Not another reader's, another image's, another task's, nor one that is settled."""
    find = kept.withdrawals.find_last
    assert find("ann", "phantom", image.sha256).flag_id == "flag-1"
    later = flag(image, flag_id="flag-2")
    kept.ledger.append(later, image, TASK)
    kept.withdrawals.remember("ann", later)
    assert find("ann", "phantom", image.sha256).flag_id == "flag-2"
    assert find("bob", "phantom", image.sha256) is None
    assert find("", "phantom", image.sha256) is None
    assert find("ann", "covid", image.sha256) is None
    assert find("ann", "phantom", "0" * 64) is None
    kept.withdrawals.withdraw("ann", "flag-2", TASK)
    assert find("ann", "phantom", image.sha256).flag_id == "flag-1"
    review.decide(kept.ledger, TASK, "flag-1", "accepted", "Chief")
    assert find("ann", "phantom", image.sha256) is None


def test_nobodys_flag_is_nobodys_last(kept, image):
    kept.withdrawals.remember("", flag(image, flag_id="flag-3"))
    kept.ledger.append(flag(image, flag_id="flag-3"), image, TASK)
    assert kept.withdrawals.find_last("", "phantom", image.sha256) is None
