"""Python processes with TensorFlow already imported, which saves five seconds each.

A server imports it once and forks for every command. The command has its own process, as with subprocess.Popen: its own
folder, environment, output, signals and end. Project modules are not imported before the fork.
"""
import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_server = []  # address of this process's server, after the first use


def run(command, folder=None):
    """Run python with these arguments to its end; returns a subprocess.CompletedProcess with its output."""
    with tempfile.TemporaryDirectory() as name:
        output, errors = (Path(name) / stream for stream in ("stdout", "stderr"))
        output.touch()
        errors.touch()
        status = Fork(command, folder or os.getcwd(), dict(os.environ), output, errors).wait()
        return subprocess.CompletedProcess(command, status, *(file.read_text() for file in (output, errors)))


class Fork:
    """A running command. poll, wait, send_signal and kill are those of subprocess.Popen.

    Args:
        command: arguments of python: a script, or "-c" and a program, and their arguments.
        folder, environment: working folder and environment variables.
        output: file for standard output.
        errors: file for standard error (default: the same).
    """

    def __init__(self, command, folder, environment, output, errors=None):
        if not _server:
            _server.append(_start_server())
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(_server[0])
        self._answers = self._line.makefile("r")
        request = {"command": list(map(str, command)), "folder": str(folder), "environment": environment,
                   "files": [os.devnull, str(output), str(errors or output)]}
        self._line.sendall(json.dumps(request).encode() + b"\n")
        self.pid = int(self._answers.readline())
        self.returncode = None

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._line.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _start_server():
    """Start a server that ends with this process; returns its address."""
    folder = tempfile.TemporaryDirectory()
    address = f"{folder.name}/forks"
    server = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE)

    def stop():
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(stop)
    while not os.path.exists(address):
        assert server.poll() is None, "the server of forks has failed"
        time.sleep(0.01)
    return address


def _serve(address):
    """Fork for each request; returns in every forked process, with the command to run."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen()
        os.rename(f"{address}.new", address)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            line, _ = listener.accept()
            if not os.fork():
                break
            line.close()
            while True:  # finished watcher processes
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        else:
            os._exit(0)
    request = json.loads(line.makefile("r").readline())
    watched = os.fork()
    if watched:
        line.sendall(b"%d\n" % watched)
        status = os.waitstatus_to_exitcode(os.waitpid(watched, 0)[1])
        line.sendall(b"%d\n" % status)
        os._exit(0)
    line.close()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for descriptor, path in enumerate(request["files"]):
        file = os.open(path, os.O_WRONLY | os.O_APPEND if descriptor else os.O_RDONLY)
        os.dup2(file, descriptor)
        os.close(file)
    return request["command"]


if __name__ == "__main__":
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}  # as networks/backend.py does
    saved = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    os.dup2(saved, 2)
    os.close(saved)
    sys.argv[:] = _serve(sys.argv[1])
    if sys.argv[0] == "-c":
        sys.path[0] = ""
        exec(sys.argv.pop(1), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
