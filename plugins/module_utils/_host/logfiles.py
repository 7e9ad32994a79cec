# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log files of the kernel, rotated and compressed ones too. Private to this collection."""

import errno
import glob
import os
import re
import stat
import zlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple, Type

from . import run
from .coverage import Unreadable

DIRECTORY = "/var/log"
# Where syslog daemons write kernel messages (Debian, Red Hat, SUSE), with what logrotate appends to the name.
_KERNEL_LOG = re.compile(r"(?:kern\.log|kernel\.log|kernel|messages|syslog|warn)(?:[.-][\w.-]+)?")
_JOURNAL = re.compile(r".*\.journal(?:~|-.*)?$")
_COMPRESSED_CHUNK = 4096  # little, since a decoder that fails gives nothing of the chunk that it failed in
_ADVICE = "Read {0} as root (become: true) or as a member of its group (often adm)."


class LogFile(NamedTuple):
    """A log file: its path on the host, and epoch seconds of its last change (no record is later)."""

    path: str
    modified: float


def kernel_logs(host: run.Host) -> List[LogFile]:
    """The syslog daemon's files of kernel messages, oldest first."""
    names = [name for name in run.names(host, DIRECTORY) if _KERNEL_LOG.fullmatch(name)]
    found, _missing = _files(host, (os.path.join(DIRECTORY, name) for name in names))
    return found


def given(host: run.Host, paths: Sequence[str]) -> Tuple[List[LogFile], List[Tuple[str, str]]]:
    """Files that paths, shell patterns and directories name, oldest first, and (path, sentence) for what is no log.

    Of a directory every file directly in it counts, except journal files. A file named twice is read once.
    """
    named: List[str] = []
    missing: List[Tuple[str, str]] = []
    for path in paths:
        matched = _matched(host, path)
        named.extend(matched)
        if not matched:
            missing.append((path, "{0} names no file.".format(path)))
    found, wrong = _files(host, named)
    return found, missing + wrong


def _matched(host: run.Host, path: str) -> List[str]:
    here = run.below(host, path)
    if os.path.isdir(here):
        inside = [os.path.join(path, name) for name in run.names(host, path) if not _JOURNAL.match(name)]
        return [each for each in inside if os.path.isfile(run.below(host, each))] or [path]
    if os.path.lexists(here) or not glob.has_magic(path):
        return [path]
    stem = len(run.below(host, "/"))
    return ["/" + match[stem:] if path.startswith("/") else match[stem:] for match in sorted(glob.glob(here))]


def _files(host: run.Host, paths: Iterable[str]) -> Tuple[List[LogFile], List[Tuple[str, str]]]:
    found: List[LogFile] = []
    wrong: List[Tuple[str, str]] = []
    seen: Set[Tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(run.below(host, path))
        except OSError as error:
            wrong.append((path, "{0} could not be read: {1}.".format(path, run.reason(error))))
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory without log files" if stat.S_ISDIR(status.st_mode) else "no regular file"
            wrong.append((path, "{0} was not read: it is {1}.".format(path, kind)))
        elif (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            found.append(LogFile(path, status.st_mtime))
    return sorted(found, key=lambda each: (each.modified, each.path)), wrong


def read(host: run.Host, path: str, about: Dict[str, Any]) -> Iterator[bytes]:
    """The text of a log file in chunks, decompressed by what it holds, whatever its name.

    A damaged or cut archive gives what was readable, then an error in the row. Raises Unreadable before
    the first chunk if the file cannot be opened, or its kind cannot be decompressed here.
    """
    try:
        # O_NONBLOCK: a file that became a pipe meanwhile must not hold the reader.
        handle = os.open(run.below(host, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        sentence = "{0} could not be opened: {1}.".format(path, run.reason(error))
        raise Unreadable(sentence, _ADVICE.format(path) if denied else None) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("{0} was not read: it is no regular file.".format(path))
    with os.fdopen(handle, "rb", buffering=0) as stream:
        try:
            head = stream.read(_MAGIC_BYTES) or b""
            stream.seek(0)
            open_decoder = next((decoder for magic, decoder in _DECODERS if head.startswith(magic)), None)
            if head.startswith(_ZSTD_MAGIC):
                chunks = _zstd(host, path, about)
            elif open_decoder:
                chunks = _decompressed(stream, _checked(open_decoder, path))
            else:
                chunks = iter(lambda: stream.read(run.CHUNK) or b"", b"")
            yield from chunks
        except OSError as error:
            about["error"] = "{0} could not be read to its end: {1}.".format(path, run.reason(error))
        except _Damaged as error:
            about["error"] = "{0} could be decompressed only in part: {1}.".format(path, error)


# --- archives -------------------------------------------------------------------------------------------------------


class _Damaged(Exception):
    """What is wrong with an archive, as the end of a sentence."""


class _Decoder(NamedTuple):
    """One compressed stream's decoder, alike for every kind."""

    feed: Callable[[bytes, int], bytes]  # input (b"" for what is still inside), most bytes to give
    inside: Callable[[], bool]  # whether there may be more output without more input
    ended: Callable[[], bool]
    rest: Callable[[], bytes]  # input behind the stream's end
    errors: Tuple[Type[Exception], ...]


def _gzip() -> _Decoder:
    inflate = zlib.decompressobj(31)  # with gzip's header
    return _Decoder(
        lambda data, most: inflate.decompress(inflate.unconsumed_tail + data, most),
        lambda: bool(inflate.unconsumed_tail),
        lambda: inflate.eof,
        lambda: inflate.unused_data,
        (zlib.error,),
    )


def _bzip2() -> _Decoder:
    import bz2

    return _of(bz2.BZ2Decompressor(), (OSError, ValueError))


def _xz() -> _Decoder:
    import lzma

    return _of(lzma.LZMADecompressor(), (lzma.LZMAError,))


def _of(decompressor: Any, errors: Tuple[Type[Exception], ...]) -> _Decoder:
    return _Decoder(
        decompressor.decompress,
        lambda: not decompressor.needs_input and not decompressor.eof,
        lambda: decompressor.eof,
        lambda: decompressor.unused_data,
        errors,
    )


_DECODERS = ((b"\x1f\x8b", _gzip), (b"BZh", _bzip2), (b"\xfd7zXZ\x00", _xz))
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES = 6


def _checked(open_decoder: Callable[[], _Decoder], path: str) -> Callable[[], _Decoder]:
    try:
        open_decoder()
    except ImportError as error:
        sentence = "{0} could not be decompressed: this Python was built without {1}.".format(path, error.name)
        raise Unreadable(sentence, "Use a complete Python on this host, or decompress {0}.".format(path)) from error
    return open_decoder


def _decompressed(stream: Any, open_decoder: Callable[[], _Decoder]) -> Iterator[bytes]:
    """Decompress one or more streams one after the other, in chunks of bounded size."""
    decoder = open_decoder()
    data = b""
    begun = ended = False
    while not ended:
        if not data and not decoder.inside():
            data = stream.read(_COMPRESSED_CHUNK) or b""
            ended = not data
        if not begun:
            data = data.lstrip(b"\0")  # padding between streams and behind the last
            if not data:
                continue
        begun = True
        try:
            chunk = decoder.feed(data, run.CHUNK)
        except decoder.errors as error:
            raise _Damaged(str(error) or "bad data") from error
        data = b""
        ended = ended and not chunk
        if chunk:
            yield chunk
        if decoder.ended():
            data, decoder, begun, ended = decoder.rest(), open_decoder(), False, False
    if begun:
        raise _Damaged("it is cut off")


def _zstd(host: run.Host, path: str, about: Dict[str, Any]) -> Iterator[bytes]:
    program = next(filter(None, map(host.which, ("zstd", "unzstd", "zstdcat"))), None)
    if program is None:
        raise Unreadable(
            "{0} could not be decompressed: this host has no zstd program.".format(path),
            "Install zstd on this host to read {0}.".format(path),
        )
    running = host.stream([program, "-dcq", "--", run.below(host, path)])
    try:
        yield from running.chunks
    finally:
        ended = running.end()
    if ended.status:
        raise _Damaged(run.complaint(ended))
