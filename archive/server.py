"""Webcam frames <place>/<day>/*.jpg from an SFTP server; downloads resume after a lost connection.

  with connect(args) as server:
      for place in server.places():
          frames = server.fetch_day(place, folder, args.iterations, args.seed)

A file is downloaded as <name>.part, which a later try continues, and is renamed when it is complete. A lost connection
is opened again. A server with an unknown host key is refused.
"""
import argparse
import errno
import getpass
import logging
import os
import posixpath
import shlex
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.pictures import is_hidden, read_picture
from archive.sky_sources import FRAME_SUFFIXES, time_of_day
from utilities import UserError, number, own_seed, writable_folder

PASSWORD_VARIABLE = "IMAGE_OUTPAINTING_PASSWORD"
SYSTEM_KNOWN_HOSTS, USER_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts", "~/.ssh/known_hosts"
# Parallel downloads, because most of the time is spent waiting for answers. paramiko's own prefetch is no alternative:
# its thread prints a traceback when the connection is lost.
CONNECTIONS = 6
ATTEMPTS = 3  # how often an operation is tried when the connection is lost
PAUSE = 0.5  # seconds before the second try, twice as long before the third
BLOCK = 32768  # bytes, the largest answer that every SFTP server gives
DAYS_TRIED = 5
NOON = 12 * 60  # minutes

# ---------------------------------------------------------------------------------------------------------------------
# Command line


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the server of the frames and the login."""
    group = parser.add_argument_group(
        "server", "Frames over SFTP. Without --key the SSH agent and the keys in ~/.ssh are tried. A password, or the "
        f"passphrase of a key, is read from the environment variable {PASSWORD_VARIABLE}.")
    group.add_argument("--server", metavar="HOST", help="fetch the frames from this server")
    group.add_argument("--username", metavar="NAME", help="login (default: your user name here)")
    group.add_argument("--server_path", default=".", metavar="FOLDER",
                       help="folder of the server that holds <place>/<day>/*.jpg; . = where the login starts")
    group.add_argument("--port", type=number(int, 1, 65535), default=22, metavar="N", help="port of the SSH server")
    group.add_argument("--key", type=Path, metavar="FILE", help="private key to log in with")
    group.add_argument("--known_hosts", type=Path, metavar="FILE",
                       help=f"known host keys, instead of {USER_KNOWN_HOSTS}")
    group.add_argument("--timeout", type=number(float, 0, low_excluded=True), default=30.0, metavar="SECONDS",
                       help="how long to wait for an answer before the connection counts as lost")
    group.add_argument("--iterations", type=number(int, 1), default=100, metavar="N",
                       help="at most this many frames per place")


def connect(args: argparse.Namespace) -> "Server":
    """The Server from the options of add_server_options, for a with statement."""
    return Server(args)


# ---------------------------------------------------------------------------------------------------------------------
# Days and times


def noon_position(names: Sequence[str]) -> int:
    """Position of the first frame from noon on in a day's sorted names; the middle if the names contain no time."""
    times = [minutes for name in names if (minutes := time_of_day(name)) is not None]
    if times and len(times) == len(names) and times == sorted(times) and times[-1] >= NOON:
        return next(position for position, minutes in enumerate(times) if minutes >= NOON)
    return len(names) // 2


def blueness(picture: NDArray[np.uint8]) -> float:
    """Mean of blue minus red of uint8 [H, W, 3], -1 to 1."""
    red, _, blue = picture.reshape(-1, 3).mean(0) / 255
    return float(blue - red)


# ---------------------------------------------------------------------------------------------------------------------
# Connection


def known_hosts_file(args: argparse.Namespace) -> str:
    """The file of known host keys, quoted for a shell."""
    return shlex.quote(str(args.known_hosts)) if args.known_hosts else USER_KNOWN_HOSTS


class HostKeyPolicy:
    """Refuses an unknown or changed host key (paramiko calls it) and says how to accept the key."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.name = args.server if args.port == 22 else f"[{args.server}]:{args.port}"  # name in a file of known hosts

    def missing_host_key(self, _client: Any, _name: str, key: Any) -> None:
        raise UserError(f"The host key of {self.args.server} is not known: compare its fingerprint "
                        f"{key.algorithm_name} {key.fingerprint} with the one its owner gives you, and accept it with "
                        f"`{self.accept(key)}`.")

    def changed(self, error: Any) -> UserError:
        """UserError for a paramiko BadHostKeyException."""
        return UserError(
            f"The host key of {self.args.server} is {error.key.algorithm_name} {error.key.fingerprint} and no longer "
            f"{error.expected_key.algorithm_name} {error.expected_key.fingerprint}, so this may be another server: if "
            f"its owner confirms the new fingerprint, accept it with "
            f"`ssh-keygen -f {known_hosts_file(self.args)} -R {shlex.quote(self.name)}; {self.accept(error.key)}`.")

    def accept(self, key: Any) -> str:
        """The command that accepts exactly this key, even if the server has another one by then."""
        line = f"{self.name} {key.get_name()} {key.get_base64()}"
        return f"echo {shlex.quote(line)} >> {known_hosts_file(self.args)}"


def read_key(file: Path, password: str | None) -> Any:
    """A private key, decrypted with the password if it is encrypted. Raises UserError when it cannot be read."""
    import paramiko

    try:
        try:
            return paramiko.PKey.from_path(file)
        except TypeError:  # it is encrypted
            return paramiko.PKey.from_path(file, (password or "").encode())
    except OSError as error:
        raise UserError(f"--key {file} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError, paramiko.SSHException, paramiko.UnknownKeyType):
        raise UserError(f"--key {file} is no private key, or ${PASSWORD_VARIABLE} is not its passphrase.") from None


def own_name() -> str:
    """The name of the current user. Raises UserError if there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise UserError("Your user has no name on this machine: give --username to log in.") from None


def reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    return getattr(error, "strerror", None) or str(error) or "no answer"


class Connection:
    """One SFTP session, opened on first use and again after it was lost."""

    def __init__(self, args: argparse.Namespace, key: Any, password: str | None) -> None:
        self.args, self.key, self.password = args, key, password
        self.username = args.username or own_name()
        self.client: Any = None  # of paramiko
        self.sftp: Any = None

    def run(self, action: Callable[[Any], Any]) -> Any:
        """Return action(sftp: paramiko.SFTPClient), tried again with a new session when the connection is lost.

        Raises UserError when it is lost ATTEMPTS times in a row, and any other exception of action.
        """
        import paramiko

        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE * attempt)
            try:
                return action(self.sftp or self.open())
            except (OSError, EOFError, paramiko.SSHException) as error:
                if not self._is_lost(error):
                    raise
                self.close()
                lost = reason(error)
        raise UserError(f"The connection to {self.args.server} was lost {ATTEMPTS} times in a row ({lost}): what has "
                        "arrived is kept, so run the same command again later.")

    def _is_lost(self, error: Exception) -> bool:
        refused = isinstance(error, OSError) and not isinstance(error, (TimeoutError, ConnectionError))
        return self.sftp is None or not refused or self.sftp.get_channel().closed

    def open(self) -> Any:
        """Connect, check the host key and log in; returns the session.

        Raises UserError where another try would not help, else OSError, EOFError or paramiko.SSHException.
        """
        import paramiko

        args, policy = self.args, HostKeyPolicy(self.args)
        self.client = paramiko.SSHClient()
        self.client.set_missing_host_key_policy(policy)
        self._load_host_keys()
        line = socket.create_connection((args.server, args.port), args.timeout)
        # Requests are small packets: without this option each waits up to 40 ms for the previous answer.
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.client.connect(args.server, args.port, self.username, self.password, self.key, sock=line,
                                timeout=args.timeout, banner_timeout=args.timeout, auth_timeout=args.timeout,
                                channel_timeout=args.timeout, allow_agent=not self.key, look_for_keys=not self.key)
            self.sftp = self._open_sftp()
        except paramiko.BadHostKeyException as error:
            raise policy.changed(error) from None
        except paramiko.SSHException as error:
            if self._is_rejected(error):
                raise UserError(self._rejected()) from None
            raise
        finally:
            if self.sftp is None:
                line.close()
                self.close()
        return self.sftp

    def _load_host_keys(self) -> None:
        import paramiko

        for file in (SYSTEM_KNOWN_HOSTS, self.args.known_hosts or os.path.expanduser(USER_KNOWN_HOSTS)):
            try:
                self.client.get_host_keys().load(file)
            except FileNotFoundError:
                pass
            except (OSError, ValueError, paramiko.hostkeys.InvalidHostKey) as error:
                raise UserError(f"The known host keys in {file} cannot be read ({reason(error)}).") from None

    def _open_sftp(self) -> Any:
        # paramiko waits forever for the server to start the session, unless the connection is closed.
        watchdog = threading.Timer(self.args.timeout, self.client.close)
        watchdog.start()
        try:
            sftp = self.client.open_sftp()
        finally:
            watchdog.cancel()
        sftp.get_channel().settimeout(self.args.timeout)
        return sftp

    def _is_rejected(self, error: Exception) -> bool:
        """True if the login failed, false if the connection was lost."""
        import paramiko

        rejected = isinstance(error, paramiko.AuthenticationException) or "authentication methods" in str(error)
        return rejected and self.client.get_transport().is_active() and "timeout" not in str(error)

    def _rejected(self) -> str:
        tried = f"--key {self.args.key}" if self.key else "the SSH agent and the keys in ~/.ssh"
        tried += f" and the password in ${PASSWORD_VARIABLE}" if self.password else ""
        return (f"{self.args.server} does not let {self.username} in with {tried}: check "
                f"--username, and name another --key or set ${PASSWORD_VARIABLE}.")

    def close(self) -> None:
        if self.client:
            self.client.close()
        self.client = self.sftp = None


# ---------------------------------------------------------------------------------------------------------------------
# Files


def download(sftp: Any, remote: str, target: Path) -> None:
    """Fetch the remote file as target; continues <target>.part if that is the beginning of the same file.

    Raises OSError when the file is missing, unreadable or changes meanwhile, or when target cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    # No with statement: its end would wait for an answer again after the connection was lost.
    source = sftp.open(remote, "rb")
    wanted = source.stat()
    try:
        with part.open("ab") as copy:
            left = os.fstat(copy.fileno())
            if left.st_mtime != wanted.st_mtime or left.st_size > wanted.st_size:
                copy.seek(copy.truncate(0))
            source.seek(copy.tell())
            while copy.tell() < wanted.st_size and (block := source.read(BLOCK)):
                copy.write(block)
    finally:
        os.utime(part, (wanted.st_mtime, wanted.st_mtime))  # identifies the file for the next try
    source.close()
    if part.stat().st_size != wanted.st_size:
        raise OSError("it changed while it was fetched")
    part.replace(target)


def listing(sftp: Any, folder: str) -> dict[str, Any]:
    """The entries of a remote folder, {name: paramiko.SFTPAttributes} sorted by name; links are followed."""
    entries = {}
    for entry in sorted(sftp.listdir_attr(folder), key=lambda entry: entry.filename):
        # A name that is a path could point outside the download folder.
        if is_hidden(entry.filename) or "/" in entry.filename or os.sep in entry.filename:
            continue
        entries[entry.filename] = entry
        if stat.S_ISLNK(entry.st_mode):
            try:
                entries[entry.filename] = sftp.stat(posixpath.join(folder, entry.filename))
            except (FileNotFoundError, PermissionError):
                del entries[entry.filename]
    return entries


def skip(remote: str, error: Exception) -> None:
    """Print that a file or folder of the server is skipped."""
    tqdm.write(f"Skipped {remote}: {reason(error)}.", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# Server


class Server:
    """A webcam archive <place>/<day>/*.jpg in a folder of an SFTP server. Use it in a with statement.

    All methods raise UserError when the connection cannot be opened or stays lost.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.host, self.root = args.server, args.server_path
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # hides its tracebacks of lost connections
        password = os.environ.get(PASSWORD_VARIABLE)
        key = read_key(args.key, password) if args.key else None
        # The passphrase of a key is no password: it is never sent to a server.
        self._connections = [Connection(args, key, None if key else password) for _ in range(CONNECTIONS)]
        self._idle: LifoQueue[Connection] = LifoQueue()
        for connection in self._connections:
            self._idle.put(connection)

    def __enter__(self) -> "Server":
        import paramiko

        connection = self._connections[-1]
        try:
            connection.open()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise UserError(f"{self.host} port {connection.args.port} cannot be reached ({reason(error)}).") from None
        return self

    def __exit__(self, *_: Any) -> None:
        for connection in self._connections:
            connection.close()

    def places(self) -> list[str]:
        """Sorted names of the places. Raises UserError when the folder does not exist or may not be read."""
        return self._folders(self.root)

    def fetch_day(self, place: str, folder: str | Path, count: int, seed: int) -> list[Path]:
        """Download up to count consecutive frames from noon on, from the bluest of some random days of a place.

        They are written to folder/<place>/<day>/; existing files are not fetched again. Returns their sorted paths,
        none for a place without frames. Unreadable days and files are printed and skipped. Raises UserError when the
        place cannot be listed or folder cannot be written.
        """
        days = np.random.default_rng(own_seed(seed, "days", place)).permutation(
            self._folders(posixpath.join(self.root, place)))
        listed = ((str(day), self._frames(posixpath.join(self.root, place, day))) for day in days)
        candidates = list(islice(((day, frames) for day, frames in listed if frames), DAYS_TRIED))
        if not candidates:
            return []
        day, frames = self._bluest(place, candidates)
        target = writable_folder(Path(folder) / place / day)
        return self._fetch([(*frame, target / posixpath.basename(frame[0])) for frame in frames[:count]], place)

    def _bluest(self, place: str,
                candidates: list[tuple[str, list[tuple[str, int]]]]) -> tuple[str, list[tuple[str, int]]]:
        """The candidate (day, frames) with the bluest first frame."""
        def score(frame: Path) -> float:
            try:
                return blueness(read_picture(frame))
            except UserError:
                return -1

        with tempfile.TemporaryDirectory() as folder:
            first = [Path(folder) / f"{day}.jpg" for day, _ in candidates]
            self._fetch([(*frames[0], file) for file, (_, frames) in zip(first, candidates, strict=True)],
                        f"{place}, days")
            scores = [score(file) for file in first]
        return candidates[int(np.argmax(scores))]

    def _frames(self, folder: str) -> list[tuple[str, int]]:
        """The frames of a day from noon on: (full name on the server, size in bytes)."""
        try:
            entries = self._run(lambda sftp: listing(sftp, folder))
        except OSError as error:
            skip(folder, error)
            return []
        frames = [(posixpath.join(folder, name), entry.st_size) for name, entry in entries.items()
                  if name.lower().endswith(FRAME_SUFFIXES) and stat.S_ISREG(entry.st_mode)]
        return frames[noon_position([posixpath.basename(name) for name, _ in frames]):]

    def _folders(self, folder: str) -> list[str]:
        try:
            entries = self._run(lambda sftp: listing(sftp, folder))
        except OSError as error:
            raise UserError(f"The folder {folder} on {self.host} cannot be listed ({reason(error)}).") from None
        return [name for name, entry in entries.items() if stat.S_ISDIR(entry.st_mode)]

    def _fetch(self, frames: list[tuple[str, int, Path]], label: str) -> list[Path]:
        """Download frames (full name on the server, size, path here), in parallel; returns the paths that were
        downloaded."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            paths = pool.map(lambda frame: self._fetch_one(*frame), frames)
            return [path for path in tqdm(paths, label, len(frames), unit="frame", disable=None, leave=False) if path]

    def _fetch_one(self, remote: str, size: int, target: Path) -> Path | None:
        if target.is_file() and target.stat().st_size == size:
            return target
        try:
            self._run(lambda sftp: download(sftp, remote, target))
        except OSError as error:
            if error.errno not in (None, errno.ENOENT, errno.EACCES):
                raise UserError(f"{target} cannot be written ({error.strerror}).") from None
            skip(remote, error)
            return None
        return target

    def _run(self, action: Callable[[Any], Any]) -> Any:
        """Return action(sftp) on an idle connection."""
        connection = self._idle.get()
        try:
            return connection.run(action)
        finally:
            self._idle.put(connection)
