"""Imports of much at once, such as torch's, without Python's search for garbage: it takes a quarter of their time."""

from __future__ import annotations

import gc
import sys
import threading


class HeavyImports:
    """While it is entered, nobody searches for garbage; what was imported is never searched again.

    Modules are there to stay, but each search for garbage goes through all that came before. One through those of
    torch, transformers and gradio takes 0.3 s, in which no thread of this process does anything else.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0  # threads
        self._searching = True  # whether there was a search for garbage before
        self._modules = 0

    def __enter__(self) -> None:
        """Stops the search."""
        with self._lock:
            if not self._inside:
                self._searching, self._modules = gc.isenabled(), len(sys.modules)
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """Begins to search again, once the last thread is done, in what comes from now on."""
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            if len(sys.modules) > self._modules:
                gc.freeze()
            if self._searching:
                gc.enable()


HEAVY_IMPORTS = HeavyImports()
