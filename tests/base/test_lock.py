"""One job at a time in a folder."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from obce.base.files import PREFIX
from obce.base.lock import LOCK, alone_in_out, working_in


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("TMPDIR")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def elsewhere(code, folder):
    code = f"import sys, os\nfrom pathlib import Path\nfrom obce.base.lock import *\n{code}"
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


TRY = "with working_in(Path(sys.argv[1])): print('worked')"


def test_a_second_job_is_told_in_one_line(tmp_path):
    out = tmp_path / "a" / "out"
    with working_in(out):
        second = elsewhere(TRY, out)
        assert second.stdout == "" and second.stderr.splitlines()[-1] == (
            f"OSError: another job is at work in {out}: wait for it, or choose another folder"
        )
        with pytest.raises(OSError, match="another job is at work"), working_in(out):
            pytest.fail("it was let in")
        assert (out / LOCK).is_file()
        (out / "file").touch()
    assert os.listdir(out) == ["file"]
    assert elsewhere(TRY, out).stdout == "worked\n"


def test_a_folder_that_stays_empty_goes_again(tmp_path):
    with pytest.raises(ValueError, match="bad"), working_in(tmp_path / "a" / "out"):
        raise ValueError("bad")
    assert os.listdir(tmp_path) == []
    with working_in(tmp_path):  # but not one that was there
        pass
    assert tmp_path.is_dir()


def test_a_killed_job_blocks_nobody_and_its_leftovers_go(tmp_path, own_temporary_folder):
    code = (
        "import tempfile\ntempfile.tempdir = sys.argv[1] + '/TMPDIR'\n"
        "out = Path(sys.argv[1]) / 'out'\n"
        "working = working_in(out); working.__enter__()\n"
        "from obce.base.files import Scratch\n"
        "(out / 'dense').mkdir()\n"
        "kept = [Scratch(out), Scratch(), Scratch(out / 'dense')]\n"
        "os.kill(os.getpid(), 9)"
    )
    tmp_path = own_temporary_folder.parent / "killed"
    (tmp_path / "TMPDIR").mkdir(parents=True)
    assert elsewhere(code, tmp_path).returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob(f"{PREFIX}*"))) == 3 and (tmp_path / "out" / LOCK).is_file()
    tempfile.tempdir = str(tmp_path / "TMPDIR")
    with working_in(tmp_path / "out"):
        assert not list(tmp_path.rglob(f"{PREFIX}*"))
    assert os.listdir(tmp_path / "out") == ["dense"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").touch()
    with (
        pytest.raises(ValueError, match="is a file: choose a folder"),
        working_in(tmp_path / "out"),
    ):
        pytest.fail("it was let in")


def test_a_job_finds_its_folder_by_name_or_by_place(tmp_path):
    @alone_in_out
    def job(name, out, more=0):
        return name, (out / LOCK).is_file(), more

    assert job("a", tmp_path, more=2) == ("a", True, 2)
    assert job(out=Path(tmp_path), name="b") == ("b", True, 0)
    assert job.__name__ == "job"
