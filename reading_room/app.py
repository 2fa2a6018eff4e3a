"""Builds the browser app, apart from launching it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from httpx import HTTPError
from pydantic import ValidationError
from starlette.middleware import Middleware

from reading_room.api import build_api
from reading_room.browsers import NamedBrowsers
from reading_room.languages import EarlyLanguages, build_language_switch
from reading_room.models_page import build_models_page
from reading_room.origins import OwnPages, find_names
from reading_room.reading_page import DISCLAIMER, build_reading_page
from reading_room.review_page import build_review_page
from reading_room.room import Room
from reading_room.sent_files import settle_files
from reading_room.streams import SettledStreams
from reading_room.themes import EarlyThemes, build_switch, build_theme, read_looks
from reading_room.uploads import forgetting
from reading_room.wiring import QUIET, Shared
from reading_room.worklist_page import build_worklist_page

_NO_FILE = (
    "This is not a file. Send one as gradio_client does: handle_file(path), or a list of these where many are asked."
)
_OUT_OF_REACH = (
    "The room cannot fetch this file: its address is not on the internet, or does not answer. Upload it to the room, "
    "or send it as a data: address."
)
SESSIONS = 500  # kept at most, about 0.4 MiB each; the one used longest ago goes first
_TO_THE_IMAGE = "() => globalThis.secondRead?.bringImage()"
_STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}


PAGES: dict[str, Callable[[Room, Shared, Callable[[gr.State], None]], Any]] = {
    "Worklist": build_worklist_page,
    "Review": lambda room, shared, on_open: build_review_page(room, shared.blinded, on_open),
    "Models": lambda room, shared, _: build_models_page(room, shared),
}
"""Title to builder of every page beside the first, in the order of their tabs.

A builder takes the room, what of the first page others go by, and `on_open`; it may call `on_open` with a state that
holds `task` and `sha256` of a case when its reader opens one: the first page then shows that case. What it returns, if
anything, is called with the page's tab, to wire what is done whenever that is chosen.
"""


class ReadingRoom(gr.Blocks):
    """The app: gradio's, and beside it the routes that serve pixels and pictures.

    Args:
        room: what the pages act on.
    """

    def __init__(self, room: Room):
        for name, value in _STATISTICS.items():  # gradio would make a table of its last 10,000 events after each one
            os.environ.setdefault(name, value)
        super().__init__(title="Second Read", analytics_enabled=False, fill_width=True)
        self.room = room

    def launch(self, *args: Any, names: Collection[str] = (), **options: Any) -> Any:
        """Launches as `gr.Blocks.launch` does: with its own routes, care for origins, streams, names, looks, uploads.

        Args:
            *args: of `gr.Blocks.launch`.
            names: under which a proxy serves the app, as `find_names` takes them.
            **options: of `gr.Blocks.launch`.
        """
        extra = dict(options.pop("app_kwargs", None) or {})
        own = Middleware(OwnPages, find_names(options.get("server_name"), names))
        others = [Middleware(each) for each in (SettledStreams, NamedBrowsers, EarlyThemes, EarlyLanguages)]
        extra["middleware"] = [*extra.get("middleware", ()), own, *others]
        own_routes = [offers.build_route() for offers in (self.room.plates, self.room.prints)]
        extra["routes"] = [*extra.get("routes", ()), *own_routes]
        extra["lifespan"] = lambda _: forgetting(self)
        if self.room.hub_copy:
            self.room.hub_copy.begin()
        return super().launch(*args, app_kwargs=extra, **options)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        """As `gr.Blocks` does, but fetches no file from an address that a caller names: only assistants send those.

        What is no file in the place of one is refused in words, without the name that it may hold in the log.
        """
        if not self.mcp_server_obj and any(map(_is_link, inputs)):
            raise gr.Error("The room fetches nothing from elsewhere. Send the file itself.", print_exception=False)
        if self.mcp_server_obj:
            inputs = await self._settle(block_fn, inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **options)
        except ValidationError:
            raise gr.Error(_NO_FILE, print_exception=False) from None
        except (ValueError, HTTPError):
            if not any(map(_is_link, inputs)):
                raise
            raise gr.Error(_OUT_OF_REACH, print_exception=False) from None

    async def _settle(self, block_fn: Any, inputs: list[Any]) -> list[Any]:
        """What assistants sent, its files in gradio's terms."""
        settled = list(inputs)
        for index, (block, sent) in enumerate(zip(block_fn.inputs, inputs, strict=False)):
            if isinstance(block, gr.File):
                try:
                    settled[index] = await asyncio.to_thread(settle_files, sent)
                except ValueError:
                    raise gr.Error(_NO_FILE, print_exception=False) from None
        return settled

    def close(self, *args: Any, **options: Any) -> None:
        """Closes as `gr.Blocks.close` does; what is not on the Hub yet gets a last, short chance."""
        super().close(*args, **options)
        if self.room.hub_copy:
            self.room.hub_copy.close()


def _is_link(value: Any) -> bool:
    """Whether what was sent for a component is, or holds, a file that lies at a web address."""
    if isinstance(value, list):
        return any(map(_is_link, value))
    return isinstance(value, dict) and "meta" in value and is_http_url_like(str(value.get("path")))


def build_app(
    flags_folder: str | Path = "flags",
    task: str | None = None,
    engine: str = "torch",
    blinded: bool = False,
    watch: Path | None = None,
    sync: str | None = None,
    pulls: bool = False,
) -> ReadingRoom:
    """Builds the reading room.

    Args:
        flags_folder: folder of the flag ledger.
        task: the task that the page opens with; None for the first that has a model here.
        engine: what runs the models, one of `xray_models.engine.ENGINES`.
        blinded: whether no opinion of an image leaves the server before its reader has committed to a label.
        watch: folder whose files are read into a worklist as they come.
        sync: data set of the Hub that gets a copy of the ledger, `owner/name`; None for none.
        pulls: whether readers may pull models of the Hub into a panel.

    Returns:
        The app; pass `launch_options()` to its `launch`.

    Raises:
        TaskError: for an unknown task.
        IntakeError: when `watch` is not a folder.
        HubError: when `sync` cannot be a data set's name.
    """
    room = Room(Path(flags_folder), engine, blinded)
    room.watch, room.pulls = watch, pulls
    if sync:
        from reading_room.syncing import HubCopy  # the Hub's client, which is imported where it is asked for

        room.hub_copy = HubCopy(room.ledger, sync)
    room.panels.start = task = task or room.panels.default()
    room.panels.warm(task)
    with ReadingRoom(room) as app:
        _build_pages(room, task)
        build_api(room)
    return app


def _build_pages(room: Room, task: str) -> None:
    build_switch()
    build_language_switch()
    with gr.Tabs(elem_id="pages") as tabs:
        with gr.Tab("Read", id="read"):
            shared, show_case = build_reading_page(room, task)
            gr.HTML(DISCLAIMER, elem_classes="sr-below sr-narrow")  # where the page's head can be out of sight

        def on_open(opened: gr.State) -> None:
            show_case(opened)
            shown = opened.change(lambda: gr.Tabs(selected="read"), None, tabs, **QUIET)
            shown.then(None, None, None, js=_TO_THE_IMAGE, api_visibility="private")

        shared.cards.click(lambda: gr.Tabs(selected="models"), None, tabs, **QUIET)

        for title, build_page in PAGES.items():
            with gr.Tab(title, id=title.lower()) as tab:
                gr.HTML(f"<h1>{title}</h1>", elem_classes="sr-unseen")
                wire_tab = build_page(room, shared, on_open)
                gr.HTML(DISCLAIMER, elem_classes="sr-below")
            if wire_tab:
                wire_tab(tab)


def launch_options() -> dict[str, Any]:
    """What `launch` needs for the app to look right and stay on this machine."""
    return {
        "theme": build_theme(),
        "css": read_looks(),
        "share": False,
        "ssr_mode": False,
        "footer_links": ["api"],
        "max_file_size": "512mb",
        "run_history": False,
        "state_session_capacity": SESSIONS,
    }
