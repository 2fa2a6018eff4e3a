"""The files of a worklist: uploads and zips, on the disk under neutral names, bounded in count and bytes.

No name from outside ever becomes a path, so nothing can be written elsewhere; a zip's table of contents bounds what
is unpacked, and `zipfile` never gives more of a file than that table says.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reading_room.intake import IntakeError
from xray_models.file_names import hash_name
from xray_models.images import MAX_BYTES

FILE_LIMIT = 2000  # files of one list
BYTE_LIMIT = 4 * 2**30  # bytes of one list, unpacked
_CONTENTS_LIMIT = 8 * 2**20  # bytes of a zip's table of contents
_CHUNK = 2**20
_ASIDE = {"thumbs.db", "desktop.ini", "dicomdir", "__macosx"}
_FAULTY_NAME = (UnicodeDecodeError, IndexError)  # what `zipfile` makes of a damaged one
_FAULTY = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)
_FAULTS = _FAULTY + _FAULTY_NAME


class NoRoomError(IntakeError):
    """The disk has too little room for the files, now."""


class Source(NamedTuple):
    """One file of a worklist.

    Attributes:
        path: where it lies, or will lie once it is unpacked.
        name_hash: keyed hash of its name.
        archive: the zip that it comes from, or None.
        member: its place in the zip.
        problem: why there is nothing to read, or "".
    """

    path: Path
    name_hash: str = ""
    archive: Path | None = None
    member: int = 0
    problem: str = ""


class Taken(NamedTuple):
    """What was taken over: the files, how many hidden ones were left aside, and the files' bytes, unpacked."""

    sources: list[Source]
    aside: int
    size: int = 0


def take_files(paths: Sequence[str | Path], folder: Path, link: bool = True) -> Taken:
    """Takes uploads over into a folder, under neutral names; zips are listed, not yet unpacked.

    Args:
        paths: where gradio put the uploads.
        folder: the list's own folder.
        link: whether a file may be taken by a link, where nobody will write to it any more; else it is copied, and
            what cannot be copied is an error instead of a source with a problem: it can be taken later.

    Returns:
        The files in their order, those of a zip in its place.

    Raises:
        IntakeError: for no files, too many, or too many bytes; `NoRoomError` when it is the disk that is too full.
        OSError: when a file cannot be copied and `link` is False.
    """
    sources: list[Source] = []
    aside = size = 0
    for number, given in enumerate(map(Path, paths)):
        if is_aside(given.name):
            aside += 1
            continue
        own = folder / f"upload-{number}"
        problem = _take_over(given, own, link)
        if problem:
            sources.append(Source(own, hash_name(given.name), problem=problem))
        elif _is_zip(own):
            found, hidden, declared = _list_zip(own)
            sources, aside, size = sources + found, aside + hidden, size + declared
        else:
            sources.append(Source(own, hash_name(given.name)))
            size += own.stat().st_size
        _check_limits(len(sources), size, folder)
    if not sources:
        raise IntakeError("There is no file to read in this. Choose images, a folder of images, or a zip of them.")
    return Taken(sources, aside, size)


def unpack(sources: Sequence[Source]) -> Iterator[Source]:
    """Yields each source when its file lies on the disk; one that cannot be unpacked says why."""
    with contextlib.ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}
        for source in sources:
            if source.archive is None or source.problem:
                yield source
                continue
            if source.archive not in archives:
                try:
                    archives[source.archive] = stack.enter_context(zipfile.ZipFile(source.archive))
                except OSError:  # the list was cleared meanwhile
                    return
            yield source._replace(problem=_extract(archives[source.archive], source))


def _take_over(given: Path, own: Path, link: bool) -> str:
    """Links a file, or copies it where it must or the disk is another one; returns what went wrong, or "".

    Without `link`, what went wrong is raised.
    """
    try:
        if link:
            with contextlib.suppress(OSError):
                os.link(given, own)
                return ""
        shutil.copyfile(given, own)
    except OSError:
        if not link:
            raise
        return "The upload did not arrive. Send it again."
    return ""


def is_aside(name: str) -> bool:
    """Whether a path, relative to what was given, is one that nobody means to send: hidden, or a system's own."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith(".") or part.lower() in _ASIDE for part in parts if part not in (".", ".."))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


class _Guarded(io.FileIO):
    """A zip's file that gives no more at once than a table of contents may have."""

    def read(self, size: int | None = -1) -> bytes:
        size = -1 if size is None else size
        if size > _CONTENTS_LIMIT:
            raise IntakeError(f"A zip in this list has far more than {FILE_LIMIT} files. Send them in parts.")
        return super().read(size)


def _list_zip(path: Path) -> tuple[list[Source], int, int]:
    """The files of a zip, how many hidden ones it has, and how many bytes it says they unpack to."""
    try:
        with _Guarded(path) as file, zipfile.ZipFile(file) as archive:
            infos = [(place, info) for place, info in enumerate(archive.infolist()) if not info.is_dir()]
    except _FAULTS:
        return [Source(path, problem="The zip is damaged or cut off. Pack it again.")], 0, 0
    wanted = [(place, info) for place, info in infos if not is_aside(info.filename)]
    if len(wanted) > FILE_LIMIT:
        _check_limits(len(wanted), 0, path.parent)
    found = [
        Source(
            path.with_name(f"{path.name}-{place}"),
            hash_name(PurePosixPath(info.filename).name),
            archive=path,
            member=place,
            problem=_find_problem(info),
        )
        for place, info in wanted
    ]
    sizes = [info.file_size for (_, info), source in zip(wanted, found, strict=True) if not source.problem]
    return found, len(infos) - len(wanted), sum(sizes)


def _find_problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "The file in the zip is locked with a password. Pack it without one."
    if stat.S_ISLNK(info.external_attr >> 16):
        return "The file in the zip is a link to another file. Pack the file itself."
    if info.file_size > MAX_BYTES:
        return f"The file in the zip unpacks to more than {MAX_BYTES // 2**20} MiB."
    return ""


def _extract(archive: zipfile.ZipFile, source: Source) -> str:
    """Unpacks one file, in pieces; returns what went wrong, or ""."""
    try:
        with archive.open(archive.infolist()[source.member]) as packed, source.path.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)
    except _FAULTS as error:
        source.path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            return f"The file could not be unpacked: {error.strerror or 'the zip is damaged'}."
        return "The file in the zip is damaged or packed in an unknown way. Pack it again."
    return ""


def _check_limits(count: int, size: int, folder: Path) -> None:
    if count > FILE_LIMIT:
        raise IntakeError(f"{count} files at once; at most {FILE_LIMIT}. Send them in parts.")
    if size > BYTE_LIMIT:
        raise IntakeError(
            f"The files unpack to {size / 2**30:.1f} GiB; at most {BYTE_LIMIT // 2**30} GiB. Send them in parts."
        )
    if size > shutil.disk_usage(folder).free // 2:
        raise NoRoomError(f"The files unpack to {size / 2**20:.0f} MiB, and the disk has too little room for that.")
