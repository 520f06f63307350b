"""Files: whole or not at all, for all to read, past no link, on a full disk, after a kill."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import save_file

from obce.base import files
from obce.base.files import PREFIX, Scratch, remove_leftovers, replacing, replacing_files
from obce.scores import Scores


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("TMPDIR")))


@pytest.fixture
def umask():
    """Sets the umask, and puts it back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(path, text="new"):
    with replacing(path) as part:
        part.write_text(text)


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "file"
    write(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    write(path)
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_the_umask(tmp_path, umask, mask, wanted):
    umask(mask)
    with replacing(tmp_path / "scores") as part:
        save_file({"a": np.zeros(3, np.float32)}, part)  # 0600 by itself
    write(tmp_path / "text")
    Scores({(0, "value"): np.zeros(3, np.float32)}).save(tmp_path / "s.safetensors")
    assert {mode(path) for path in tmp_path.iterdir()} == {wanted}


def test_files_in_folders_move_along_and_the_last_comes_last(tmp_path, monkeypatch):
    moved, original = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), original(a, b)))
    with replacing_files(tmp_path / "out", last="a.json") as folder:
        (folder / "a.json").write_text("{}")
        (folder / "z.txt").write_text("z")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
    assert moved[-1] == "a.json" and len(moved) == 3
    assert (tmp_path / "out" / "1_Pooling" / "config.json").is_file()


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.fstat(n).st_ino), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write(tmp_path / "file")
    inode, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    assert inode in done[: done.index("replace")]
    assert done[-1] == folder


def test_links_are_replaced_and_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "README.md"
    for points_to in (target, tmp_path / "nowhere"):
        link.unlink(missing_ok=True)
        link.symlink_to(points_to)
        write(link)
        assert link.read_text() == "new" and not link.is_symlink()
    assert target.read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_where_a_file_is_written_first_cannot_be_foreseen_or_entered(tmp_path):
    seen = set()
    for _ in range(8):
        with replacing(tmp_path / "file") as part:
            assert mode(part.parent) == 0o700 and part.parent.parent == tmp_path
            seen.add(part)
            part.touch()
    assert len(seen) == 8


@pytest.mark.parametrize("path", [".", "/dev/null"])
def test_what_is_no_file_is_refused_before_anything_is_written(path):
    with pytest.raises(OSError, match="is no file: choose another path"), replacing(path):
        pytest.fail("the block was entered")


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(OSError, match="there is no folder .*nowhere"):
        write(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), KeyError("x")]
)
def test_a_full_disk_is_named_by_its_folder(tmp_path, error):
    message = rf"cannot write into {tmp_path}/new/folder: \d+ MiB are free; "
    with pytest.raises(OSError, match=message), replacing_files(tmp_path / "new/folder", last="a"):
        raise error
    assert os.listdir(tmp_path / "new" / "folder") == []


def test_a_full_temporary_folder_is_named(tiny_bert, tokenizer, sentences):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
    from obce import collect

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=f"cannot write into {tempfile.tempdir}: .* MiB are free"):
            collect(tiny_bert, tokenizer, sentences)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tempfile.tempdir) == []


def test_an_error_that_names_its_file_stays(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such"), replacing(tmp_path / "a"):
        open(tmp_path / "no-such")


# What killed processes leave


def killed(code, folder):
    """A process that runs ``code`` and is killed before it can clean up."""
    code = f"import os, signal, sys\nfrom obce.base.files import *\n{code}"
    code += "\nos.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "code",
    [
        "s = Scratch(sys.argv[1]); (s.path / 'x').write_text('x')",
        "c = replacing(Path(sys.argv[1]) / 'f'); c.__enter__().write_text('x')",
    ],
)
def test_leftovers_of_killed_processes_go_with_the_next_file(tmp_path, code):
    killed(code, tmp_path)
    assert [name[: len(PREFIX)] for name in os.listdir(tmp_path)] == [PREFIX]
    write(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_without_a_lock_goes_when_it_is_no_longer_young(tmp_path):
    """A young one may be another process's, which is about to lock it."""
    killed("tempfile.mkdtemp(prefix=PREFIX, dir=sys.argv[1])", tmp_path)
    (left,) = tmp_path.iterdir()
    write(tmp_path / "file")
    assert left.is_dir()
    os.utime(left, (0, 0))
    write(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_else_is_removed(tmp_path):
    (tmp_path / "obce-results").mkdir()
    (tmp_path / f"{PREFIX}of-mine").mkdir()
    (tmp_path / f"{PREFIX}of-mine" / "notes").write_text("kept")  # never locked: not ours
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / files.LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}file").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_in_use_are_not_removed(tmp_path):
    with Scratch(tmp_path) as mine, Scratch(tmp_path) as other:
        remove_leftovers(tmp_path)
        code = f"from obce.base.files import *; remove_leftovers(Path({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert mine.is_dir() and other.is_dir()
    assert os.listdir(tmp_path) == []


def test_a_folder_taken_for_a_leftover_before_it_is_locked(tmp_path, monkeypatch):
    original, made, held = tempfile.mkdtemp, [], []

    def taken(**options):
        made.append(original(**options))
        if len(made) == 1:  # its remover has locked it
            held.append(FileLock(Path(made[0]) / files.LOCK, blocking=False))
            held[0].acquire()
        elif len(made) == 2:  # its remover has found it empty
            shutil.rmtree(made[1])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with Scratch(tmp_path) as folder:
        held[0].release()
        assert str(folder) == made[1] and folder.is_dir()
        remove_leftovers(tmp_path)
        assert os.listdir(tmp_path) == [folder.name]


def test_a_saved_model_can_be_read_by_others(tiny_classifier, tokenizer, tmp_path, umask):
    from obce.running.loading import save_classifier

    umask(0o022)
    save_classifier(tiny_classifier, tokenizer, tmp_path / "saved")
    assert {mode(path) for path in (tmp_path / "saved").iterdir()} == {0o644}
    assert (tmp_path / "saved" / "model.safetensors").is_file()
