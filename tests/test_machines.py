"""Special machines: GPUs of a scheduler, settings of other programs, no home, closed and broken pipes."""
import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

import contact_sheet
import log_and_save
from archive.server import own_name
from log_and_save import NoWandb, model_folder, start_wandb, wandb_mode
from networks.backend import chosen_backend
from networks.machine import chosen_gpu, without_gpu
from utilities import ROOT, UserError, output_file, replacing, run_name


def python(program, *, closed=(), environment=None):
    """A finished process of this program in the project's folder, with some standard streams closed."""
    def close():
        for descriptor in closed:
            os.close(descriptor)

    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
                          preexec_fn=close, env={**os.environ, **(environment or {})})


COMMAND = """
import sys
from utilities import UserError, command_parser, run_command
def main(args):
    {body}
run_command(main, command_parser("test"), [])
"""


# ---------------------------------------------------------------------------------------------------------------------
# GPUs and Keras


@pytest.mark.parametrize(("number", "listed", "visible"), [
    (1, "2,3", "3"), (0, "2,3", "2"), (0, None, "0"), (3, None, "3"), (-1, "2,3", ""), (-1, None, ""), (0, "", ""),
    (0, "-1", ""), (1, "GPU-8f, GPU-91", "GPU-91"), (0, "MIG-1", "MIG-1")])
def test_a_gpu_is_counted_among_those_of_the_scheduler(number, listed, visible):
    assert chosen_gpu(number, listed) == visible


def test_a_gpu_that_the_scheduler_did_not_give_is_refused():
    with pytest.raises(UserError, match="--use_gpu 2 is not there: CUDA_VISIBLE_DEVICES=2,3 lists 2"):
        chosen_gpu(2, "2,3")


@pytest.mark.parametrize(("number", "there", "words"), [
    (None, False, ""), (0, False, ""), (None, True, "has a GPU that jax cannot use"),
    (0, True, "has a GPU that jax cannot use"), (2, True, "--use_gpu 2 is not there, or jax cannot use it"),
    (2, False, "--use_gpu 2 is not there, or jax cannot use it")])
def test_an_unusable_gpu_gives_a_message(number, there, words):
    said = without_gpu(number, there, "jax")
    assert words in said
    assert said.endswith(": the processor is used.\n" if words else "")


def test_the_command_prints_a_message_for_a_missing_gpu():
    program = ("import argparse, os; from networks.machine import prepare_machine; "
               "os.environ.pop('CUDA_VISIBLE_DEVICES', 0); "
               "prepare_machine(argparse.Namespace(use_gpu=99, threads=1, seed=0, precision='float32'))")
    done = python(program)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "--use_gpu 99 is not there, or tensorflow cannot use it: the processor is used.\n"


def test_a_backend_that_does_not_fit_is_refused():
    assert chosen_backend(None) == chosen_backend("") == "tensorflow"
    assert chosen_backend("jax") == "jax"
    for name in ("torch", "numpy", "tensorflow2"):
        with pytest.raises(ValueError, match=f"KERAS_BACKEND={name} cannot be used: expected tensorflow or jax"):
            chosen_backend(name)


def test_the_settings_of_other_programs_are_not_read(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float16", "backend": "torch", "epsilon": 0.1,
                                                     "image_data_format": "channels_first"}))
    program = ("from networks.backend import keras; from keras import config; print(keras.backend.backend(), "
               "config.floatx(), config.epsilon(), config.image_data_format())")
    found = python(program, environment={"KERAS_HOME": str(tmp_path)})
    assert found.stdout.split() == ["tensorflow", "float32", "1e-07", "channels_last"], found.stderr
    refused = python("import networks.backend", environment={"KERAS_BACKEND": "torch"})
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Standard streams


@pytest.mark.parametrize("closed", [(2,), (1,), (0, 1, 2)])
def test_a_command_works_without_standard_streams(tmp_path, closed):
    """Files it opens do not get their numbers, and output of libraries to descriptor 2 is dropped."""
    body = (f"file = open({str(tmp_path / 'a')!r}, 'w'); assert file.fileno() > 2; "
            "from utilities import quiet_stderr\n    with quiet_stderr(): os.write(2, b'greeting')\n"
            "    print('out'); print('progress', file=sys.stderr); file.write('whole'); file.close()")
    done = python("import os" + COMMAND.format(body=body), closed=closed)
    assert done.returncode == 0
    assert (tmp_path / "a").read_text() == "whole"


def into_closed_pipe(program, stream):
    """Exit status and remaining output of a program when nobody reads its stdout, its stderr or both."""
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams |= dict.fromkeys(streams, writing) if stream == "both" else {stream: writing}
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, **streams)
    os.close(writing)
    return process.returncode, (process.stdout or b"") + (process.stderr or b"")


@pytest.mark.parametrize("stream", ["stdout", "both"])
def test_a_command_ends_quietly_when_nobody_reads_it(stream):
    assert into_closed_pipe(COMMAND.format(body="print('x' * 100_000)"), stream) == (141, b"")
    assert into_closed_pipe(COMMAND.format(body="print('x')"), stream) == (141, b"")


def test_a_command_goes_on_when_nobody_sees_its_progress(tmp_path):
    body = (f"print('x' * 100_000, file=sys.stderr); open({str(tmp_path / 'a')!r}, 'w').write('whole')\n"
            "    print('y', file=sys.stderr)")
    assert into_closed_pipe(COMMAND.format(body=body), "stderr") == (0, b"")
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.parametrize(("encoding", "name"), [("utf-8:strict", "Z\udcfcrich.png"), ("cp1252", "☁.png")])
def test_names_that_cannot_be_printed_are_replaced(encoding, name):
    printed = python(COMMAND.format(body=f"print({name!r}); print({name!r}, file=sys.stderr)"),
                     environment={"PYTHONIOENCODING": encoding})
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == printed.stderr == name.replace("\udcfc", "?").replace("☁", "?") + "\n"


@pytest.mark.parametrize(("body", "words"), [
    ("open('/nosuch/file')", "/nosuch/file: No such file or directory."),
    ("raise MemoryError('Unable to allocate 9 TiB')", "there is not enough memory (Unable to allocate 9 TiB)"),
    ("raise UserError('wrong.')", "error: wrong.")])
def test_what_the_machine_refuses_is_one_line(body, words):
    refused = python(COMMAND.format(body=body))
    assert refused.returncode == 2
    assert words in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.fixture
def small_disk():
    """A limit on the size of files, which simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, small_disk):
    file = tmp_path / "a.npz"
    file.write_text("old")
    with pytest.raises(UserError, match="a.npz cannot be written .*: the old file is kept") as caught, \
            replacing(file) as temporary:
        np.savez(temporary, values=np.zeros(100_000))
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a\\b", "x" * 101])
def test_names_of_runs_that_cannot_be_folders_are_refused(name):
    with pytest.raises(argparse.ArgumentTypeError):
        run_name(name)


def test_good_names_of_runs_are_taken_and_an_empty_one_is_not_the_shipped_model():
    assert run_name("night 2.1-ü") == "night 2.1-ü"
    with pytest.raises(UserError, match="no tokenizer run named"):
        model_folder("tokenizer", "")


@pytest.mark.parametrize("name", ["none/s.jpg", "s.foo", "s", "folder.jpg"])
def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(argparse.ArgumentTypeError):
        contact_sheet.sheet_file(str(tmp_path / name))
    assert output_file(str(tmp_path / "s.json")) == tmp_path / "s.json"


@pytest.mark.parametrize(("content", "words"), [("{", "damaged"), ("{}", "not a report"), ("[1]", "not a report")])
def test_a_damaged_report_is_named(tmp_path, content, words):
    (tmp_path / "sky_0.json").write_text(content)
    with pytest.raises(UserError, match=f"sky_0.json is {words}"):
        list(contact_sheet.read_results([tmp_path]))


# ---------------------------------------------------------------------------------------------------------------------
# wandb, homes, servers


@pytest.mark.parametrize(("variable", "auto", "mode"), [
    (None, "online", "online"), (None, "offline", "offline"), ("disabled", "online", "disabled"),
    ("disabled", "offline", "disabled"), ("offline", "online", "offline"), ("dryrun", "online", "offline"),
    ("online", "online", "online"), ("online", "offline", "offline"), ("odd", "online", "online")])
def test_auto_follows_the_variable_and_sends_nothing_without_it(variable, auto, mode):
    assert wandb_mode(variable, auto) == mode


@pytest.fixture
def homeless(monkeypatch):
    """A user without a name in the system, as in a container run by a user number."""
    def unknown(_):
        raise KeyError

    for variable in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_without_a_home_there_is_no_key_and_no_name(homeless):
    assert not log_and_save.has_wandb_key()
    with pytest.raises(UserError, match="give --username"):
        own_name()


@pytest.mark.parametrize("variable", [None, "logs"])
def test_wandb_writes_to_the_folder_of_its_variable_or_to_the_current_one(variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    if variable:
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / variable))
    start_wandb("outpainting", "test", {}, "offline").finish()
    assert list((tmp_path / (variable or "") / "wandb").glob("offline-run-*"))


def test_without_a_folder_for_wandb_the_command_continues(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file"))
    assert isinstance(start_wandb("outpainting", "test", {}, "offline"), NoWandb)
    assert capsys.readouterr().err.count("the command continues without it.") == 1


@pytest.mark.parametrize("key", ["short", "0" * 40])
def test_a_server_of_wandb_that_does_not_answer_or_a_wrong_key_stop_nothing(tmp_path, monkeypatch, capsys, key):
    monkeypatch.setattr(log_and_save, "ANSWER_SECONDS", 1)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    start_wandb("outpainting", "test", {}, "online").finish()
    error = capsys.readouterr().err
    assert "wandb cannot be used online" in error
    assert "the command continues offline." in error
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_the_passphrase_of_a_key_is_not_sent_and_the_key_that_was_shown_is_the_one_accepted(tmp_path, monkeypatch):
    """A server that refuses every login and records the passwords."""
    import paramiko

    from archive.server import PASSWORD_VARIABLE, add_server_options, connect

    passwords, host_key = [], paramiko.RSAKey.generate(2048)

    class Refusing(paramiko.ServerInterface):
        def get_allowed_auths(self, _):
            return "publickey,password"

        def check_auth_password(self, _, password):
            passwords.append(password)
            return paramiko.AUTH_FAILED

    def serve(listener):
        for _ in range(3):
            line, _ = listener.accept()
            transport = paramiko.Transport(line)
            transport.add_server_key(host_key)
            with suppress(OSError, EOFError, paramiko.SSHException):  # ssh-keyscan hangs up early
                transport.start_server(server=Refusing())

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    paramiko.RSAKey.generate(2048).write_private_key_file(tmp_path / "key", "open sesame")
    parser = argparse.ArgumentParser()
    add_server_options(parser)
    options = ["--server", "127.0.0.1", "--port", listener.getsockname()[1], "--username", "me",
               "--known_hosts", tmp_path / "known", "--timeout", 10]

    def refusal(*more):
        with pytest.raises(UserError) as caught, connect(parser.parse_args([*map(str, options), *more])):
            pass
        return str(caught.value)

    command = refusal().split("`")[1]
    assert host_key.fingerprint in refusal()
    subprocess.run(command, shell=True, check=True)
    assert host_key.get_base64() in (tmp_path / "known").read_text()
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    assert "does not let me in with --key" in refusal("--key", str(tmp_path / "key"))
    assert passwords == []
    listener.close()
