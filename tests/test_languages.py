"""The Turkish table: whole, unambiguous, and with a phrase for all that the pages and the errors say."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import gradio as gr
import pytest

from reading_room import languages, panels, pulls, review_page, worklist_page, worklist_view
from reading_room.app import build_app
from reading_room.cards import GUEST
from reading_room.languages import LANGUAGES, read_phrases
from reading_room.review import STATUSES
from reading_room.viewer import read_part
from xray_models.architectures import ARCHITECTURES
from xray_models.attribution import TITLES
from xray_models.figures import BOOTSTRAPS, WILSON
from xray_models.flags import REASONS
from xray_models.tasks import ModelRef, load_tasks

ROOT = Path(__file__).resolve().parents[1]
TABLE = read_phrases("tr")
HOLE = re.compile(r"\{(\w+)\}")
SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d])")  # as `phrases.js` has it, which knows titles of people, too
NUMBER = r"([−-]?\d+(?:[.,]\d+)*)"
# Names that are the same in Turkish: of the program, of files, models, methods, colours and keys.
SAME = re.compile(
    r"Second Read|flags\.\w+|relabels\.csv|HiResCAM|Grad-CAM|GradientShap|SmoothGrad"
    r"|Inferno|Viridis|Cividis|Enter|Esc|Del|T Shift T"
    r"|(Mobile|Res|Dense|Efficient)Net[\w-]*|Inception-v3|Xception|ConvNeXt-T|ViT-\w+/16|EN|TR|AUROC"
)


def compile_pattern(phrase):
    parts = re.split(r"\{(\w+)\}", phrase)
    holes = [NUMBER if len(name) == 1 else "(.+?)" for name in parts[1::2]] + [""]
    return re.compile("".join(re.escape(text) + hole for text, hole in zip(parts[::2], holes, strict=True)), re.DOTALL)


EXACT = {key.split("|")[0] for key in TABLE}
PATTERNS = [compile_pattern(key) for key in TABLE if HOLE.search(key)]


def knows(text):
    """Whether a text has a translation, as `phrases.js` finds one, or needs none."""
    core = " ".join(text.split())
    if core in EXACT or SAME.fullmatch(core) or not re.search(r"[^\W\d_]{2}", core):
        return True
    for parts in (core.split(" · "), SENTENCES.split(core)):
        if len(parts) > 1:
            return all(map(knows, parts))
    if any(pattern.fullmatch(core) for pattern in PATTERNS):
        return True
    parts = core.split(", ")
    return len(parts) > 1 and all(map(knows, parts))


class Texts(HTMLParser):
    """All that a piece of HTML says."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if ("translate", "no") not in attrs:
            self.found += [v for k, v in attrs if k in ("title", "aria-label", "alt", "placeholder", "data-head")]

    def handle_data(self, data):
        if "code" not in self.open[-1:]:
            self.found.append(data)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


# --- the table ---


def test_no_phrase_is_there_twice_or_empty():
    for code in list(LANGUAGES)[1:]:
        text = (Path(languages.__file__).parent / f"{code}.json").read_text(encoding="utf-8")
        pairs = json.loads(text, object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert sorted({key for key in keys if keys.count(key) > 1}) == []
        for key, value in pairs:
            assert key.strip() == key and value.strip() == value and key and value, key
            assert "  " not in key + value, key


def test_both_sides_have_the_same_placeholders():
    for key, value in TABLE.items():
        names = HOLE.findall(key)
        assert len(set(names)) == len(names), key
        assert sorted(names) == sorted(HOLE.findall(value)), key
        if names:  # texts are taken apart before patterns are tried
            assert len(SENTENCES.split(key)) == 1 and " · " not in key, key


def test_percent_signs_stand_as_turkish_has_them():
    wrong = [value for value in TABLE.values() if re.search(r"[\d}] ?%", value)]
    assert wrong == []


def test_the_table_of_another_language_cannot_end_the_script():
    head = languages.build_head().decode()
    assert head.count("</script>") == 1 and head.rstrip().endswith("</script>")
    assert not re.search(r"https?://|fetch\(|@import|url\(", head)
    assert not re.search(r"(?<![\w&-])#[0-9a-f]{3,8}\b(?![\w-])|\b(?:rgb|hsl)a?\(", head)  # colours are the themes'


# --- what the pages say ---


def load_own():
    """The tasks of the README's table of three columns: another one, which somebody adds, may go without phrases."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\|$", readme, re.MULTILINE)
    return {name: task for name, task in load_tasks().items() if name in listed}


def test_this_project_s_own_tasks_are_covered():
    assert set(load_own()) >= {"covid", "pneumonia", "brain", "fracture", "bone", "phantom"}


@pytest.fixture(scope="module")
def app(untrained, tmp_path_factory):
    tasks = {**load_own(), "phantom": untrained}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: tasks)
        app = build_app(
            tmp_path_factory.mktemp("ledger"), "phantom", watch=tmp_path_factory.mktemp("watched"), pulls=True
        )
        yield app
        app.room.panels.get("phantom")  # its thread is done before the tests are


def is_of_api(block):
    """Whether a component is in the group that is never shown."""
    while block := getattr(block, "parent", None):
        if isinstance(block, gr.Group) and block.visible is False and not block.elem_id:
            return True
    return False


def test_every_component_of_the_app_is_covered(app):
    said = set()
    for block in app.blocks.values():
        if is_of_api(block):
            continue
        said |= {getattr(block, name, None) for name in ("label", "placeholder", "info")}
        said |= {str(title) for title, _ in getattr(block, "choices", None) or ()}
        if isinstance(block, gr.Button | gr.UploadButton):
            said.add(block.value if isinstance(block, gr.Button) else block.label)
        if isinstance(block, gr.HTML) and isinstance(block.value, str):
            said |= set(Texts(block.value).found)
    assert len(said) > 120
    data = app.room.panels.tasks["phantom"].dataset
    documents = {data.source, data.licence, data.citation}  # as their publishers write them
    texts = {text for text in said - documents if isinstance(text, str) and not re.fullmatch(r"[0-9a-f]{12}", text)}
    assert sorted(text for text in texts if not knows(text)) == []


def test_the_viewer_is_covered():
    said = Texts(read_part("viewer.html")).found
    said += re.findall(r'\["([^"]+)", "([^"]+)", \[', read_part("keys.js"))
    said += re.findall(r'^  \["(\w+)", \[', read_part("keys.js"), re.MULTILINE)
    for name in ("marks.js", "overlay.js", "viewer.js", "view.js", "pointer.js", "start.js", "plate.js", "window.js"):
        script = read_part(name)
        said += [re.sub(r"\$\{[^}]*\}", "7", text) for text in re.findall(r'(?:say|Error)\(["`]([^"`]+)["`]\)', script)]
        said += re.findall(r'title: "([^"]+)"|new Option\("([^"]+)"', script)
    texts = {text for entry in said for text in ([entry] if isinstance(entry, str) else entry) if text}
    assert len(texts) > 90
    assert sorted(text for text in texts if not knows(text)) == []


def test_words_that_the_server_chooses_are_covered():
    tasks = load_own().values()
    words = [*REASONS, *STATUSES, *TITLES.values(), *worklist_view._STATES.values()]
    words += [task.title for task in tasks] + [label.replace("_", " ") for task in tasks for label in task.labels]
    words += [title for title, _ in worklist_view.ORDERS + worklist_view.list_filters(())]
    words += [architecture.title for architecture in ARCHITECTURES.values()]
    words += [*BOOTSTRAPS.values(), WILSON, GUEST.strip()]
    words += ["; ".join(sorted((each, WILSON))) for each in BOOTSTRAPS.values()]  # as the models page says both
    words += [text for html in (review_page._SEALED, worklist_page._SEALED) for text in Texts(html).found]
    pulled = pulls.Pulled(ModelRef("vit", repo="ward/vit", revision="0" * 40), calibrated=False)
    said = (
        pulls.NOT_HERE,
        pulls.render_pulling("ward/vit"),
        pulls.render_left("vit"),
        pulls.render_pulled("covid", pulled),
    )
    words += [text for html in said for text in Texts(html).found]
    assert [word for word in words if not knows(word)] == []


def test_a_name_that_was_only_typed_is_called_so_wherever_a_phrase_holds_a_name():
    holding = [key for key in TABLE if "{READER}" in key and GUEST not in key]
    assert holding and [key for key in holding if key.replace("{READER}", "{READER}" + GUEST) not in TABLE] == []
    assert all("(oturum açmadı)" in text or ", oturum açmadı)" in text for key, text in TABLE.items() if GUEST in key)


ERRORS = "FlagError|LedgerError|IntakeError|SealedError|ImageError|UnsupportedImage|OversizedImage|TruncatedImage"
ERRORS += "|TaskError|HubError|FileMissing|PickleOnly|LabelsDiffer|HashDiffers|NotPulled"  # why a model is unavailable
ERRORS += "|OSError"
SPEAKERS = [
    *("reading_room/" + name for name in ("blinding", "desk", "earlier", "flagging", "intake", "review", "room")),
    *("reading_room/" + name for name in ("pulls", "sources", "withdrawals", "worklists")),
    *("xray_models/" + name for name in ("checkpoints", "dicom", "hub_cache", "images", "pictures", "presentation")),
    *("xray_models/" + name for name in ("damage", "panel", "processors")),
    *("xray_models/architectures/" + name for name in ("fusion", "split_check")),
]
# What only a program that calls the API can bring about, and what is the caller's fault.
OF_PROGRAMS = re.compile(
    r"the record must|`7` is missing|The confidence is|opened as text|7 is unavailable: 7|A 7 is no"
)


def read_messages(path):
    """The messages of the errors that a module makes, and its warnings; what is filled in is 7."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if re.fullmatch(ERRORS, name) or (name == "append" and owner == "warnings"):
            parts = getattr(node.args[0], "values", [node.args[0]])
            yield "".join(part.value if isinstance(part, ast.Constant) else "7" for part in parts)


@pytest.mark.parametrize("name", SPEAKERS)
def test_errors_and_warnings_are_covered(name):
    messages = set(read_messages(ROOT / f"{name}.py")) - {"7"}
    assert [text for text in sorted(messages) if not knows(text) and not OF_PROGRAMS.search(text)] == []


def test_a_missing_phrase_would_be_seen():
    assert not knows("Lung opacity, as nobody wrote it") and not knows("Saved · of nobody")
    assert knows("7 of 8 models still to answer") and knows("The file has more than 512 MiB. Try again.")
