"""A long worklist against the panel's own speed, and whether the page still answers: `python -m benchmarks.worklist`.

Phantoms are read twice: as a worklist of the reading room, and by the panel alone from files of the same kind, in
turns. While the list is read, a client asks the running app for something small again and again: how long that takes is
what a click takes. Also the memory, at a tenth of the list and at its end.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import worklist

    sys.exit(worklist())

import argparse
import platform
import resource
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import write_record


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `worklist.json`."""
    from PIL import Image

    from reading_room.app import build_app, launch_options
    from xray_models import phantom

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(options.images):
            drawn = phantom.draw_phantom(phantom.LABELS[number % 4], number, size=options.size)
            path = Path(folder, f"{number}.png")
            Image.fromarray(drawn.pixels).save(path)
            paths.append(path)
        app = build_app(Path(folder, "flags"), "phantom")
        _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
        try:
            record = _measure(app.room, url, paths, options.rounds)
        finally:
            app.close()
    for name, value in record.items():
        print(f"{name:32} {value}")
    record["machine"] = {"processor": platform.processor() or platform.machine(), "images": options.images}
    record["versions"] = {name: version(name) for name in ("torch", "gradio")}
    write_record("worklist", record, options.out)


def _measure(room, url: str, paths: list[Path], rounds: int) -> dict[str, object]:
    import numpy as np
    from gradio_client import Client

    from reading_room.worklists import Worklists
    from xray_models.images import read_image

    panel, lists, client = room.panels.get("phantom"), Worklists(room), Client(url, verbose=False)
    waits: list[float] = []
    alone, listed, memory = [], [], {}
    list(panel.read_many([read_image(path) for path in paths[:8]]))
    for _ in range(rounds):
        started = time.perf_counter()
        for first in range(0, len(paths), 8):
            list(panel.read_many([read_image(path) for path in paths[first : first + 8]]))
        alone.append(len(paths) / (time.perf_counter() - started))
        over = threading.Event()
        asking = threading.Thread(target=_ask, args=(client, over, waits))
        started = time.perf_counter()
        key = lists.start([str(path) for path in paths], "phantom")
        asking.start()
        found = lists.get(key)
        while found.active:
            if "tenth" not in memory and len(found.rows) >= len(paths) // 10:
                memory["tenth"] = _memory()
            time.sleep(0.05)
        listed.append(len(paths) / (time.perf_counter() - started))
        over.set()
        asking.join()
        memory["end"] = _memory()
        lists.drop(key)
    return {
        "panel alone, images/s": round(float(np.median(alone)), 1),
        "worklist, images/s": round(float(np.median(listed)), 1),
        "worklist / panel alone": round(float(np.median(np.divide(listed, alone))), 3),
        "click meanwhile, ms, median": round(1000 * float(np.median(waits))),
        "click meanwhile, ms, 95th": round(1000 * float(np.percentile(waits, 95))),
        "peak memory, MiB, at a tenth": memory.get("tenth"),
        "peak memory, MiB, at the end": memory["end"],
    }


def _ask(client, over: threading.Event, waits: list[float]) -> None:
    """Asks for the tasks five times a second, and notes how long each answer takes."""
    while True:
        started = time.perf_counter()
        client.predict(api_name="/tasks")
        waits.append(time.perf_counter() - started)
        if over.wait(0.2):
            return


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
