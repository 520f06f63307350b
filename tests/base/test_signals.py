"""Ctrl-C and SIGTERM: one line, status 1, and everything as it was before."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from obce import cli
from obce.base.signals import Interrupts, noted, terminable


def test_sigterm_interrupts_and_is_then_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it was not interrupted")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_program_keeps_its_own_handlers():
    def own(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, own), signal.signal(signal.SIGINT, own)
    try:
        with terminable(), noted():
            assert signal.getsignal(signal.SIGTERM) is own is signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_noted_until_the_second(number):
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with terminable(), noted() as pressed:
            os.kill(os.getpid(), number)
            assert pressed == [number]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                pytest.fail("it was not interrupted")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, old)


def test_other_threads_change_nothing():
    seen = []

    def work():
        with terminable(), noted() as pressed:
            seen.append((signal.getsignal(signal.SIGTERM), pressed))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGTERM), [])] and not isinstance(
        seen[0][0], Interrupts
    )


@pytest.mark.parametrize("moment", ["import obce.cli", "import obce.jobs.steps", "import torch._C"])
def test_an_interrupt_while_python_imports_is_one_line(tmp_path, moment):
    """The first seconds: a module that is about to be imported stops there and waits for Ctrl-C."""
    module = moment.split()[1]
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    command = [sys.executable, "-m", "obce", "evaluate", "nowhere", "--task", "sst2"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("obce: interrupted") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_came_of_an_interrupt_is_not_shown(run, monkeypatch, number):
    """As matplotlib's C++ raises it, where KeyboardInterrupt came while it read a Python object."""

    def broken(*args, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        raise ValueError("Invalid bounding box")

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(cli, "app", broken)
        line = "obce: interrupted; the same command goes on where it stopped\n"
        assert run("evaluate") == (1, "", line)
    finally:
        signal.signal(signal.SIGINT, old)
