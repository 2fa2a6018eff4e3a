"""Who may log in: names and hashed passwords in a file as Apache's `htpasswd -B` writes it.

`python -m reading_room.accounts FILE NAME` asks for a password and puts the account into the file.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bcrypt

_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_LONGEST = 72  # bytes of a password that bcrypt looks at
_ROUNDS = 12
# of a password that nobody has; as long to check as a real one
_NOBODY = "$2b$12$eft7E17HnF9V73r6HbbJnOZk973KYShItga4GsX.4SzTc6z5N7u9O"


class AccountError(ValueError):
    """An account file that cannot be used; the message says which line, and what to do."""


class Accounts:
    """Accounts by name.

    Args:
        hashes: name to bcrypt hash.
    """

    def __init__(self, hashes: Mapping[str, str]):
        self._hashes = dict(hashes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._hashes)

    def check(self, name: str, password: str) -> bool:
        """Whether this is the account's password; a name that is not there takes as long."""
        given = password.encode()
        right = bcrypt.checkpw(given[:_LONGEST], self._hashes.get(name, _NOBODY).encode())
        return right and name in self._hashes and len(given) <= _LONGEST


def read_accounts(path: Path) -> Accounts:
    """Reads a file of one `name:hash` a line; empty lines and those that start with # are left out.

    Raises:
        AccountError: for a line that is none, with its number; nothing of a password is told.
        OSError: when the file cannot be read.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.partition(":")
        if not name or not _HASH.fullmatch(text.strip()):
            raise AccountError(
                f"{path}, line {number}: expected name:hash with a bcrypt hash, not a password as it is typed. "
                f"Write it with: python -m reading_room.accounts {path} NAME"
            )
        if name != name.strip():  # as the page takes what is typed, so that nobody could log in
            raise AccountError(f"{path}, line {number}: {name!r} has a space at an end. Remove the space.")
        if name in hashes:
            raise AccountError(f"{path}, line {number}: {name!r} has a line already. Remove one of them.")
        hashes[name] = text.strip()
    if not hashes:
        raise AccountError(f"{path} has no account. Add one with: python -m reading_room.accounts {path} NAME")
    return Accounts(hashes)


def _read_lines(path: Path) -> list[str]:
    """The lines of a file; what an editor puts before the first one is no part of a name."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AccountError(f"{path} is not UTF-8 text. Save it as that, or write it anew with this module.") from error


def put_account(path: Path, name: str, password: str) -> None:
    """Adds an account to a file, or changes its password; the file is for its owner alone.

    Raises:
        AccountError: for a name or a password that cannot be.
    """
    if not name or name != name.strip() or not name.isprintable() or ":" in name or name.startswith("#"):
        raise AccountError(
            f"The name {name!r} cannot be: it must not be empty, hold a colon, start with #, or have a space at an end."
        )
    if not 8 <= len(password.encode()) <= _LONGEST:
        raise AccountError(f"The password must have 8 to {_LONGEST} bytes.")
    lines = _read_lines(path) if path.exists() else []
    kept = [line for line in lines if line.partition(":")[0] != name]
    kept.append(f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS)).decode()}")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(kept) + "\n")
    draft.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reading_room.accounts", description="Adds or changes an account.")
    parser.add_argument("file", type=Path, help="the file for `dashboard.py --auth`; made if missing")
    parser.add_argument("name", help="the reader's name")
    options = parser.parse_args(argv)
    try:
        first = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != first:
            raise AccountError("The two passwords differ; nothing is changed.")
        put_account(options.file, options.name, first)
    except (AccountError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
