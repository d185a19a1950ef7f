"""Frames over SFTP, from a real OpenSSH server on loopback; a TCP proxy simulates bad connections."""
import argparse
import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archive import server
from archive.server import PASSWORD_VARIABLE, add_server_options, connect, listing, noon_position, time_of_day
from utilities import ROOT, UserError

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
ROOT_LOGIN = os.geteuid() == 0
DAY = "2021-03-02"  # the bluest of the harbour's days
needs_sshd = pytest.mark.skipif(not SSHD or not shutil.which("ssh-keyscan"), reason="OpenSSH server is not installed")

SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
"""


def save(path, color, noise=0, size=(160, 120)):
    """Write a JPEG of one colour (red, green, blue), with noise that makes the file large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).normal(color, noise, (size[1], size[0], 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def make_key(file, passphrase=""):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", file], check=True)


class OpenSSH:
    """A running server. archive: its folder of frames; known_hosts: a file with its host key."""

    def __init__(self, folder):
        self.folder, self.archive, self.port = folder, folder / "archive", free_port()
        for name in ("host_key", "user_key", "wrong_key", "other_host_key"):
            make_key(folder / name)
        make_key(folder / "locked_key", "open sesame")
        self.public = {key.stem: " ".join(key.read_text().split()[:2]) for key in folder.glob("*.pub")}
        (folder / "authorized_keys").write_text(f"{self.public['user_key']}\n{self.public['locked_key']}\n")
        self.known_hosts = self.known("host_key")
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(port=self.port, folder=folder))
        if ROOT_LOGIN:
            os.makedirs("/run/sshd", exist_ok=True)  # needed by sshd; normally made at boot
        with (folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        self.wait()

    def wait(self):
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
                time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    def known(self, key, port=None):
        """A new known_hosts file with this key for the server, or for the proxy at this port."""
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "known hosts"
        file.write_text(f"[127.0.0.1]:{port or self.port} {self.public[key]}\n")
        return file

    def options(self, **changed):
        """Parsed options for a login; the host key is also known for a proxy at `port`."""
        parser = argparse.ArgumentParser()
        add_server_options(parser)
        args = parser.parse_args([])
        port = changed.get("port", self.port)
        values = {"server": "127.0.0.1", "port": port, "username": getpass.getuser(), "key": self.folder / "user_key",
                  "server_path": str(self.archive), "known_hosts": self.known("host_key", port), **changed}
        for name, value in values.items():
            assert hasattr(args, name)
            setattr(args, name, value)
        return args

    def frames(self, place, day):
        """The frames from noon on, {name: content}."""
        files = sorted((self.archive / place / day).glob("*.jpg"))
        return {file.name: file.read_bytes() for file in files if file.stem >= "1200"}


@pytest.fixture(scope="module")
def openssh():
    # Not in pytest's folder, which is closed to the other user that one test logs in as.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for day, color in (("2021-03-01", (120, 120, 120)), (DAY, (90, 130, 220)), ("2021-03-03", (220, 130, 90))):
            for hour in range(9, 18):
                # All are blue before noon, so only the frame at noon decides.
                save(folder / "archive" / "harbour" / day / f"{hour:02}05.jpg", color if hour >= 12 else (0, 0, 255),
                     noise=hour)
        for hour in range(12, 20):
            save(folder / "archive" / "tower" / DAY / f"{hour}00.jpg", (90, 130, 220), 60, (800, 600))
        (folder / "archive" / "empty").mkdir()
        (folder / "archive" / "notes.txt").write_text("no place")
        running = OpenSSH(folder)
        yield running
        running.process.terminate()
        running.process.wait(10)


class Proxy:
    """Forwards connections to a port; after a limit of bytes from the server it cuts or stalls the connection.

    limits: bytes for the first connection, the second, ...; the last is for all later ones, None = no limit. passed:
    bytes that came from the server; triggers: {bytes: function to call after this many}.
    """

    def __init__(self, target, limits=(None,), stalls=False, triggers=None):
        self.target, self.limits, self.stalls, self.triggers = target, list(limits), stalls, triggers or {}
        self.passed, self.connections, self.lock = 0, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.done = threading.Event()

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            near = socket.create_connection(("127.0.0.1", self.target))
            for line in (client, near):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit = self.limits[min(self.connections, len(self.limits) - 1)]
            self.connections += 1
            threading.Thread(target=self.answers, args=(near, client, limit), daemon=True).start()
            threading.Thread(target=self.requests, args=(client, near), daemon=True).start()

    def requests(self, client, near):
        try:
            while data := client.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def answers(self, near, client, limit):
        left = float("inf") if limit is None else limit
        with near, client:
            try:
                while data := near.recv(int(min(left, 16384))):
                    with self.lock:
                        self.passed += len(data)
                        for due in [count for count in self.triggers if count <= self.passed]:
                            self.triggers.pop(due)()
                    client.sendall(data)
                    left -= len(data)
                    if not left:
                        if self.stalls:
                            self.done.wait()
                        client.shutdown(socket.SHUT_RDWR)
                        return
            except OSError:
                pass


# ---------------------------------------------------------------------------------------------------------------------
# Times


@pytest.mark.parametrize("name, expected", [
    ("1205.jpg", "12:05"), ("120533.jpg", "12:05"), ("2021-03-01_12-05.jpg", "12:05"), ("20210301120500.jpg", "12:05"),
    ("2021-03-01-12-05-33.jpg", "12:05"), ("img_20210301T120533Z.jpg", "12:05"), ("cam01_12-05.jpg", "12:05"),
    ("cam02_0905.jpg", "09:05"), ("12h05.jpg", "12:05"), ("2021.03.01_23.59.jpg", "23:59"), ("0000.jpg", "00:00"),
    ("300908.jpg", None), ("1614600000.jpg", None), ("20210301.jpg", None), ("2400.jpg", None), ("1260.jpg", None),
    ("frame.jpg", None), ("7.jpg", None)])
def test_time_of_day(name, expected):
    minutes = time_of_day(name)
    assert expected == (None if minutes is None else f"{minutes // 60:02}:{minutes % 60:02}")


@pytest.mark.parametrize("names, expected", [
    (["0900.jpg", "1159.jpg", "1200.jpg", "1300.jpg"], 2), (["1300.jpg", "1400.jpg"], 0),
    (["0900.jpg", "1000.jpg", "1100.jpg"], 1),  # none from noon on
    (["a.jpg", "b.jpg", "c.jpg", "d.jpg"], 2), (["010908.jpg", "200908.jpg", "300908.jpg"], 1), ([], 0),
    (["cam_2300.jpg", "dam_0100.jpg", "fam_1200.jpg"], 1)])  # sorted by something else
def test_noon_position(names, expected):
    assert noon_position(names) == expected


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


@needs_sshd
def test_a_day_is_fetched(openssh, tmp_path):
    with connect(openssh.options()) as archive:
        assert archive.places() == ["empty", "harbour", "tower"]
        assert archive.fetch_day("empty", tmp_path, 10, seed=0) == []
        frames = archive.fetch_day("harbour", tmp_path, 4, seed=0)
        assert frames == [tmp_path / "harbour" / DAY / f"{hour}05.jpg" for hour in range(12, 16)]
        assert all(frame.read_bytes() == openssh.frames("harbour", DAY)[frame.name] for frame in frames)
        assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == frames


@needs_sshd
def test_existing_frames_are_not_fetched_again(openssh, tmp_path):
    with connect(openssh.options()) as archive:
        first = archive.fetch_day("harbour", tmp_path, 3, seed=0)
        inodes = [frame.stat().st_ino for frame in first]
        first[1].write_bytes(b"too short")
        again = archive.fetch_day("harbour", tmp_path, 6, seed=0)
    assert again[:3] == first
    assert len(again) == 6
    assert [again[0].stat().st_ino, again[2].stat().st_ino] == inodes[::2]
    assert again[1].read_bytes() == openssh.frames("harbour", DAY)[again[1].name]


@needs_sshd
def test_folders_that_are_links_count_and_names_that_are_paths_do_not(openssh):
    folder = openssh.archive / "links"
    folder.mkdir()
    (folder / "harbour").symlink_to(openssh.archive / "harbour")
    (folder / "gone").symlink_to(openssh.archive / "nowhere")
    (folder / "file").symlink_to(openssh.archive / "notes.txt")
    try:
        with connect(openssh.options(server_path=str(folder))) as archive:
            assert archive.places() == ["harbour"]
    finally:
        shutil.rmtree(folder)


def test_a_server_cannot_lead_out_of_the_folder():
    import paramiko

    class Hostile:
        def listdir_attr(self, _folder):
            entries = [paramiko.SFTPAttributes() for _ in range(3)]
            for entry, entry.filename in zip(entries, ("up/../../../etc", "..", "1200.jpg"), strict=True):
                entry.st_mode = 0o100644
            return entries

    assert list(listing(Hostile(), "day")) == ["1200.jpg"]


# ---------------------------------------------------------------------------------------------------------------------
# Logging in


def refusal(args):
    """The message of a refused login."""
    with pytest.raises(UserError) as caught, connect(args):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_sshd
def test_a_wrong_key_is_named(openssh):
    message = refusal(openssh.options(key=openssh.folder / "wrong_key"))
    assert f"does not let {getpass.getuser()} in with --key {openssh.folder}/wrong_key" in message


@needs_sshd
def test_a_wrong_password_is_named(openssh, monkeypatch, tmp_path):
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert f"the password in ${PASSWORD_VARIABLE}" in refusal(openssh.options(key=None))
    monkeypatch.delenv(PASSWORD_VARIABLE)
    assert f"set ${PASSWORD_VARIABLE}" in refusal(openssh.options(key=None))


@needs_sshd
def test_the_keys_of_the_user_are_tried(openssh, monkeypatch, tmp_path):
    shutil.copytree(openssh.known_hosts.parent, tmp_path / ".ssh")
    (tmp_path / ".ssh" / openssh.known_hosts.name).rename(tmp_path / ".ssh" / "known_hosts")
    shutil.copy(openssh.folder / "user_key", tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with connect(openssh.options(key=None, known_hosts=None)) as archive:
        assert "tower" in archive.places()


@needs_sshd
def test_a_locked_key_needs_its_passphrase(openssh, monkeypatch):
    args = openssh.options(key=openssh.folder / "locked_key")
    for password in ("", "wrong"):
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
        assert f"${PASSWORD_VARIABLE} is not its passphrase" in refusal(args)
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    with connect(args) as archive:
        assert "tower" in archive.places()


@needs_sshd
def test_a_file_that_is_no_key_is_refused(openssh, tmp_path):
    assert "is no private key" in refusal(openssh.options(key=openssh.folder / "sshd_config"))
    assert f"--key {tmp_path}/none cannot be read (No such file" in refusal(openssh.options(key=tmp_path / "none"))


@needs_sshd
@pytest.mark.parametrize("known", [None, "other_host_key"])
def test_a_host_key_is_accepted_only_with_the_command_that_the_refusal_names(openssh, tmp_path, known):
    known_hosts = openssh.known(known) if known else tmp_path / "known hosts"
    args = openssh.options(known_hosts=known_hosts)
    message = refusal(args)
    public = (openssh.folder / "host_key.pub").as_posix()
    shown = subprocess.run(["ssh-keygen", "-l", "-f", public], capture_output=True, text=True, check=True).stdout
    assert f"ED25519 {shown.split()[1]}" in message
    assert ("another server" in message) == bool(known)
    command = re.search("`(.*)`", message)[1]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    with connect(args) as archive:
        assert "tower" in archive.places()


@needs_sshd
def test_known_hosts_that_cannot_be_read_are_named(openssh, tmp_path):
    (tmp_path / "known_hosts").write_bytes(bytes(range(256)))
    assert f"{tmp_path}/known_hosts cannot be read" in refusal(openssh.options(known_hosts=tmp_path / "known_hosts"))


@needs_sshd
def test_a_server_that_is_not_there_is_named(openssh):
    port = free_port()
    assert refusal(openssh.options(port=port)) == f"127.0.0.1 port {port} cannot be reached (Connection refused)."
    assert "host.invalid port" in refusal(openssh.options(server="host.invalid"))


@needs_sshd
def test_a_folder_that_cannot_be_listed_is_named(openssh):
    for folder in ("nowhere", "notes.txt"):
        path = f"{openssh.archive}/{folder}"
        with connect(openssh.options(server_path=path)) as archive, pytest.raises(UserError, match=f"{path} on"):
            archive.places()
    with connect(openssh.options()) as archive, pytest.raises(UserError, match="nowhere on .*No such file"):
        archive.fetch_day("nowhere", openssh.folder / "none", 1, 0)


@needs_sshd
def test_a_folder_that_may_not_be_read_is_named_or_skipped(openssh, tmp_path, capsys):
    # Root may read everything, so where the server runs as root another user logs in.
    username = "nobody" if ROOT_LOGIN else getpass.getuser()
    closed = openssh.archive / "harbour" / DAY
    closed.chmod(0)
    try:
        with connect(openssh.options(username=username, server_path=str(closed))) as archive, \
                pytest.raises(UserError, match="Permission denied"):
            archive.places()
        with connect(openssh.options(username=username)) as archive:
            frames = archive.fetch_day("harbour", tmp_path, 1, seed=0)
    finally:
        closed.chmod(0o755)
    assert frames == [tmp_path / "harbour" / "2021-03-01" / "1205.jpg"]
    assert f"Skipped {closed}: Permission denied." in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# Bad connections


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(server, "PAUSE", 0.05)


@needs_sshd
def test_a_cut_download_continues_where_it_stopped(openssh, tmp_path, hurry, capfd):
    size = len(openssh.frames("tower", DAY)["1200.jpg"])
    # The frame is fetched twice, first to measure its blueness.
    with Proxy(openssh.port, limits=[int(1.7 * size), None]) as proxy:
        with connect(openssh.options(port=proxy.port)) as archive:
            frame, = archive.fetch_day("tower", tmp_path, 1, seed=0)
        assert frame.read_bytes() == openssh.frames("tower", DAY)["1200.jpg"]
        assert proxy.connections == 2
        assert proxy.passed < 2.3 * size  # 2.7 after a new start
    assert [file.name for file in frame.parent.iterdir()] == ["1200.jpg"]
    assert capfd.readouterr().err == ""


@needs_sshd
def test_many_cuts_leave_the_frames_whole(openssh, tmp_path, hurry, capfd):
    frames = openssh.frames("tower", DAY)
    size = max(map(len, frames.values()))
    cuts = [int(size * share) for share in (1.3, 0.4, 0.9, 0.2, 1.8, 0.7, 1.1)]
    with Proxy(openssh.port, limits=[*cuts, None]) as proxy:
        with connect(openssh.options(port=proxy.port)) as archive:
            got = archive.fetch_day("tower", tmp_path, 100, seed=0)
        assert proxy.connections > 7
    assert {frame.name: frame.read_bytes() for frame in got} == frames
    assert capfd.readouterr().err == ""


@needs_sshd
def test_a_connection_that_is_always_cut_leaves_no_half_file(openssh, tmp_path, hurry, capfd):
    size = len(openssh.frames("tower", DAY)["1200.jpg"])
    with Proxy(openssh.port, limits=[int(1.3 * size), 60_000, 20_000, 20_000]) as proxy, \
            connect(openssh.options(port=proxy.port)) as archive, \
            pytest.raises(UserError, match="lost 3 times in a row"):
        archive.fetch_day("tower", tmp_path, 1, seed=0)
    left, = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert left.name == "1200.jpg.part"
    part = left.stat().st_size
    assert 0 < part < size
    with Proxy(openssh.port) as proxy, connect(openssh.options(port=proxy.port)) as archive:
        frame, = archive.fetch_day("tower", tmp_path, 1, seed=0)
        assert proxy.passed < 2 * size - part / 2
    assert frame.read_bytes() == openssh.frames("tower", DAY)["1200.jpg"]
    assert not left.exists()
    assert capfd.readouterr().err == ""


@needs_sshd
def test_a_lost_connection_is_one_line_of_a_command(openssh, tmp_path):
    script = tmp_path / "fetch.py"
    script.write_text("""
from archive.server import add_server_options, connect
from utilities import command_parser, run_command

def main(args):
    with connect(args) as server:
        server.fetch_day("tower", "frames", args.iterations, 0)

parser = command_parser(None)
add_server_options(parser)
run_command(main, parser)
""")
    with Proxy(openssh.port, limits=[100_000, 10]) as proxy:
        args = openssh.options(port=proxy.port)
        options = [f"--{name}={value}" for name, value in vars(args).items() if value is not None]
        ended = subprocess.run([sys.executable, script, *options], cwd=tmp_path, capture_output=True, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 2
    assert re.fullmatch("fetch.py: error: The connection to 127.0.0.1 was lost 3 times in a row .*\n", ended.stderr)
    assert ended.stdout == ""


@needs_sshd
def test_a_part_of_another_file_is_not_continued(openssh, tmp_path):
    part = tmp_path / "tower" / DAY / "1200.jpg.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"the beginning of an older frame")
    with connect(openssh.options()) as archive:
        frame, = archive.fetch_day("tower", tmp_path, 1, seed=0)
    assert frame.read_bytes() == openssh.frames("tower", DAY)["1200.jpg"]


@needs_sshd
@pytest.mark.parametrize("limits, arrives", [([300_000, None], True), ([300_000, 20_000], False), ([10], False)])
def test_a_connection_that_stalls_times_out(openssh, tmp_path, hurry, limits, arrives):
    start = time.monotonic()
    with Proxy(openssh.port, limits, stalls=True) as proxy:
        try:
            with connect(openssh.options(port=proxy.port, timeout=0.7)) as archive:
                assert len(archive.fetch_day("tower", tmp_path, 1, seed=0)) == 1
            assert arrives
        except UserError as error:
            assert not arrives
            assert re.search("lost 3 times in a row|cannot be reached", str(error))
            assert not list(tmp_path.rglob("*.jpg"))
    assert time.monotonic() - start < 8


@needs_sshd
def test_a_frame_that_vanishes_is_named_and_skipped(openssh, tmp_path, capsys):
    frames = openssh.frames("tower", DAY)
    last = openssh.archive / "tower" / DAY / "1900.jpg"
    gone = {3 * len(frames["1200.jpg"]): last.unlink}
    try:
        with Proxy(openssh.port, triggers=gone) as proxy, connect(openssh.options(port=proxy.port)) as archive:
            got = archive.fetch_day("tower", tmp_path, 100, seed=0)
    finally:
        last.write_bytes(frames["1900.jpg"])
    assert [frame.name for frame in got] == [f"{hour}00.jpg" for hour in range(12, 19)]
    assert f"Skipped {last}: No such file." in capsys.readouterr().err
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == got
