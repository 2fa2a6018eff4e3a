"""Talks to the Hub: one client, patience where waiting helps, and an error that names the fix where it does not.

`huggingface_hub` repeats some of its requests by itself (file listings, uploads of large files, a download that was
cut) but not the creation of a repository, the commit, or a download that the Hub refuses for a moment. `ask` repeats
those. The address comes from `HF_ENDPOINT`, the token from `hf auth login` or `HF_TOKEN`; neither is ever shown.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx, parse_ratelimit_headers

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PASSING = (408, 429, 500, 502, 503, 504)  # answers after which the same request may succeed
_NO_HUB = (json.JSONDecodeError, httpx.InvalidURL)  # from something else than a Hub, or an address that is none
_MISREAD = (AttributeError, LookupError, TypeError)  # by the client, of an answer that is JSON but not a Hub's
_DISKS = (errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)
_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each repetition
_LONGEST_WAIT = 300.0  # seconds; the Hub counts requests in windows of five minutes


class HubError(ValueError):
    """Something on the way to or from the Hub that does not work; the message says what to do."""


class RevisionGone(HubError):
    """The pinned commit is not, or no longer, in its repository."""


class FileMissing(HubError):
    """A repository or a folder lacks a file that every model needs."""


class PickleOnly(HubError):
    """A repository holds its weights only as pickles, which can run code when they are opened."""


class LabelsDiffer(HubError):
    """A model's labels are not the task's labels in the task's order."""


class HashDiffers(HubError):
    """A downloaded file is not the file that the Hub lists."""


class NotPulled(HubError):
    """A model from the Hub that is not on this machine."""


class Place(NamedTuple):
    """What a request is about, for its error message: a repository, and a revision where one is pinned."""

    repo: str
    revision: str | None = None


def connect() -> HfApi:
    """Returns a client of the Hub at `HF_ENDPOINT`, or of the public one; the only place that reads that variable."""
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="second-read")


def create_repository(api: HfApi, repo: str, public: bool, asked: bool = True, **options: Any) -> str:
    """Creates a repository, or finds it with the same visibility; returns its address.

    Args:
        api: the client.
        repo: `owner/name`.
        public: whether others may see it.
        asked: whether that is the user's choice, by --public.
        options: more for `HfApi.create_repo`, such as `repo_type`.

    Raises:
        HubError: when it exists with another visibility, or the Hub refuses.
    """
    kind = options.get("repo_type")
    place = Place(repo)
    address = ask(api, place, lambda: api.create_repo(repo, private=not public, exist_ok=True, **options))
    info = ask(api, place, lambda: api.repo_info(repo, repo_type=kind))
    if info.private == public:
        other, fix = ("private", "leave out --public, or ") if public else ("public", "give --public, or ")
        raise HubError(
            f"{repo!r} exists and is {other}: {fix if asked else ''}change its visibility in its settings on the Hub."
        )
    return str(address)


def ask(api: HfApi, place: Place, work: Callable[[], _T]) -> _T:
    """Runs requests to the Hub; repeats them while the Hub is busy.

    Args:
        api: the client.
        place: what the requests are about.
        work: the requests; must be safe to repeat.

    Returns:
        What `work` returns.

    Raises:
        HubError: when the Hub refuses, lacks what is asked for, or cannot be reached.
    """
    waits = iter(_WAITS)
    while True:
        try:
            return work()
        except _MISREAD as error:
            if not _is_clients(error):
                raise
            raise _say_no_hub(api) from error
        except (HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
            known = next(_find_causes(error), error if isinstance(error, EntryNotFoundError) else None)
            if known is None:
                raise  # not about the Hub: a bug, or a full disk
            wait = next(waits, None) if _may_pass(known) else None
            if wait is None:
                raise _explain(known, api, place) from error
            wait = _asked_wait(known, wait)
            _log.warning("%s: %s; asking again in %.0f s", place.repo, _describe(known), wait)
            time.sleep(wait)


def find_unwritable(error: BaseException | None) -> OSError | None:
    """Returns what a disk or a folder said, among an error and its causes; None where it is about something else."""
    if any(_find_causes(error)):
        return None
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISKS:
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_clients(error: BaseException) -> bool:
    """Whether an error was raised in `huggingface_hub` itself."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).startswith("huggingface_hub.")


def _find_causes(error: BaseException | None) -> Iterator[Exception]:
    """Yields the errors of the Hub or the network among an error and what caused it."""
    while error is not None:
        if isinstance(error, (HTTPError, OfflineModeIsEnabled, HFValidationError, *_NO_HUB)):
            yield error
        error = error.__cause__ or error.__context__


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError)


def _asked_wait(error: Exception, wait: float) -> float:
    """Seconds that the Hub asks to wait, or else `wait`."""
    if not isinstance(error, HfHubHTTPError):
        return wait
    limit = parse_ratelimit_headers(error.response.headers)
    if limit is not None and limit.remaining == 0:
        return min(limit.reset_in_seconds + 1.0, _LONGEST_WAIT)
    after = error.response.headers.get("Retry-After", "")
    return min(float(after), _LONGEST_WAIT) if after.isdigit() else wait


def _describe(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {error.response.status_code}"
    return f"the connection failed ({type(error).__name__})"


def _say_no_hub(api: HfApi) -> HubError:
    return HubError(f"{api.endpoint} does not answer as a Hub does. Check HF_ENDPOINT, and the network's log-in page.")


def _explain(error: Exception, api: HfApi, place: Place) -> HubError:
    """Puts an error of the Hub into words that name the repository and the fix."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RevisionNotFoundError):
        return RevisionGone(
            f"revision {place.revision} of {place.repo!r} is not on the Hub (any more). Pin a commit that is: its "
            "history lists them; or push the model again and pin what `hub push` prints."
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return FileMissing(f"{place.repo!r} lacks a file that its own listing names. Push the model again.")
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return HubError(
            f"there is no repository {place.repo!r} on {api.endpoint}, or you may not see it. Check the name; for a "
            "private one, log in with `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return HubError(
            f"your token may not do this to {place.repo!r}. Use one with write access to its owner: `hf auth login`."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return HubError("HF_HUB_OFFLINE is set, so the Hub was not asked. Unset it for this command.")
    if isinstance(error, HFValidationError):
        return HubError(f"{place.repo!r} cannot be the name of a repository; valid: owner/name, letters, digits, -_.")
    if isinstance(error, _NO_HUB):
        return _say_no_hub(api)
    if status in _PASSING:
        return HubError(f"{_describe(error)} for {place.repo!r}, again and again. Nothing is lost; try again later.")
    if status is not None:
        return HubError(f"{_describe(error)} for {place.repo!r}: {' '.join(str(error).split())}")
    return HubError(f"{api.endpoint} cannot be reached ({type(error).__name__}). Check the connection and HF_ENDPOINT.")
