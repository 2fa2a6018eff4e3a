import numpy as np
import pandas as pd

from xray_models.seen import find_seen, note_seen


def rows(*images):
    return pd.DataFrame(images, columns=["path", "sha256", "split"])


MADE = rows(
    ("/a/COVID/COVID-1.png", "p1", "train"),
    ("/a/COVID/COVID-2.png", "p2", "validation"),
    ("/a/COVID/COVID-3.png", "p3", "test"),
    ("/a/x/1.png", "p4", "train"),
    ("/a/y/1.png", "p5", "test"),
)


def test_an_image_is_known_by_its_pixels_or_its_name():
    seen = note_seen(MADE, named=True)
    assert find_seen(MADE, seen).tolist() == [True, True, False, True, False]
    other = rows(("/b/COVID-1.jpg", "q1", "test"), ("/b/COVID-9.jpg", "p2", "test"), ("/b/COVID-3.jpg", "q3", "test"))
    assert find_seen(other, seen).tolist() == [True, True, False]
    assert find_seen(other, seen, by_picture=True).tolist() == [False, True, False]


def test_a_name_that_is_not_an_images_own_tells_nothing():
    seen = note_seen(MADE, named=True)
    assert find_seen(rows(("/b/1.png", "q", "test")), seen).tolist() == [False]
    drawn = note_seen(MADE)
    assert find_seen(rows(("/b/COVID-1.png", "q", "test"), ("/b/z.png", "p1", "test")), drawn).tolist() == [False, True]
    assert len(note_seen(rows(("/a/007.png", "p", "train")), named=True)["seen_names"]) == 0


def guess(seen):
    """The names that anybody finds in what is kept, who tries them one after the other."""
    names = [f"{word}-{number}" for word in ("COVID", "Normal") for number in range(100)]
    tried = pd.DataFrame({"path": [f"/x/{name}.png" for name in names], "sha256": "none", "split": "test"})
    return [name for name, found in zip(names, find_seen(tried, seen), strict=True) if found]


def test_what_is_kept_gives_no_name_away_unless_that_is_asked_for():
    seen = note_seen(MADE)
    assert {kept.dtype for kept in seen.values()} == {np.dtype("uint64")}
    assert {name: len(kept) for name, kept in seen.items()} == {"seen_pictures": 3, "seen_names": 0}
    assert guess(seen) == []
    assert guess(note_seen(MADE, named=True)) == ["COVID-1", "COVID-2"]
    assert find_seen(MADE.iloc[:0], seen).tolist() == []
