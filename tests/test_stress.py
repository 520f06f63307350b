"""``make stress`` in seconds, and that its counts would show what they count."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from obce.book import counts as tables
from tools.stress import hostile, kills, models
from tools.stress.__main__ import added, pieces
from tools.stress.models import glue_folder, tiny_bert
from tools.stress.mutations import OUTCOMES, Loader, loaders, mutate
from tools.stress.pieces import LOADERS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return loaders(tmp_path_factory.mktemp("files"))


def in_a_process(code, folder):
    """Jobs are forked, which a process with many threads should not do."""
    code = f"import json, pathlib, sys\nfrom tools.stress import hostile, kills\n{code}"
    path = os.pathsep.join([*sys.path])
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip


def counted(part, call, folder):
    done = in_a_process(f"print(json.dumps({call}), flush=True)", folder)
    import json

    counts = json.loads(done.stdout.splitlines()[-1])
    assert tables.bad({"parts": {part: counts}}) == []
    return counts


HERE = "pathlib.Path(sys.argv[1])"


def test_killed_jobs_lose_nothing(tmp_path):
    counts = counted("kills", f"kills.kill_jobs(3, 3, {HERE})", tmp_path)
    assert counts["kills"] == dict.fromkeys(sorted(kills.SIGNALS), 1)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(kills.SIGNALS))
def test_jobs_killed_by_one_signal_lose_nothing(name, tmp_path):
    counts = counted("kills", f"kills.kill_jobs(3, 0, {HERE}, {name!r})", tmp_path)
    assert counts["kills"] == {name: 3}


@pytest.mark.long
def test_full_disks(tmp_path):
    assert counted("disks", f"hostile.fill_disks(3, 0, {HERE})", tmp_path)["full"] > 0


@pytest.mark.long
def test_two_jobs_in_one_folder(tmp_path):
    assert counted("pairs", f"hostile.pair_jobs(2, 0, {HERE})", tmp_path)["pairs"] == 2


@pytest.mark.long
def test_the_same_seed_gives_the_same_bytes(tmp_path):
    code = f"""
for name in "ab":
    found = kills.uninterrupted({HERE} / name)[1]
    print(json.dumps(found["bytes"]))"""
    first, second = in_a_process(code, tmp_path).stdout.splitlines()
    assert first == second and "model.safetensors" in first


@pytest.fixture
def job(tmp_path):
    """Runs the job in this process: (status, what it has said). Its folder is tmp_path/out."""
    inputs = tiny_bert(tmp_path / "model"), glue_folder(tmp_path / "glue")

    def run(*more):
        return hostile.command([*models.job(*inputs, tmp_path / "out"), *more])

    return run


def interrupt(monkeypatch, module, name):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupted)


def test_a_torn_state_is_passed_over(job, tmp_path, monkeypatch):
    from obce.jobs import compression

    with monkeypatch.context() as patch:
        interrupt(patch, compression, "time_side_by_side")  # all but the last step is done
        assert job() == (1, "obce: interrupted; the same command goes on where it stopped\n")
    state = tmp_path / "out" / "state.json"
    state.write_text(state.read_text()[:-100])
    status, said = job()
    assert status == 0 and "state.json is no record" in said and "the job starts over" in said
    assert not state.exists() and (tmp_path / "out" / "config.json").is_file()


def test_a_job_killed_while_it_tidied_up_is_tidied_up(job, tmp_path, monkeypatch):
    from obce.jobs import compression

    with monkeypatch.context() as patch:
        interrupt(patch, compression, "tidy")
        patch.setattr(compression._Compression, "_start", lambda self, resume: None)
        assert job()[0] == 1
    out = tmp_path / "out"
    assert (out / "record.json").is_file() and (out / "state.json").is_file()
    assert job()[0] == 0
    left = {path.name for path in out.iterdir()}
    assert not left & {"state.json", "repaired", "finetuned", ".obce-lock"}


def test_a_finished_record_that_was_changed_is_no_result(job, tmp_path):
    assert job()[0] == 0
    path = tmp_path / "out" / "record.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7', 1))
    status, said = job()
    assert status == 2 and "is not as obce wrote it" in said and said.count("\n") == 1


def test_a_compressed_model_can_be_read_by_others(job, tmp_path):
    before = os.umask(0o022)
    try:
        assert job()[0] == 0
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in files}
    assert set(modes.values()) == {"0o644"}, modes


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    counts = hostile.foreign_checkpoints(tmp_path)
    assert counts["checkpoints"] == 6
    assert tables.bad({"parts": {"foreign": counts}}) == []


def test_the_marker_of_code_that_is_run_is_seen(tmp_path):
    import pickle

    pickle.loads(pickle.dumps(hostile._Evil(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_no_connection_for_local_models(tmp_path):
    counts = hostile.without_network(tmp_path)
    assert counts == {"commands": 4, "failed": 0, "connections": 0}


def test_a_connection_is_seen():
    import urllib.request

    with hostile.no_network() as attempts, pytest.raises(OSError):
        urllib.request.urlopen("http://localhost:9", timeout=1)
    assert len(attempts) == 1


@pytest.mark.parametrize("name", LOADERS)
def test_broken_files_are_refused_or_mean_the_same(files, name, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    counts = mutate(files[name], 120, seed=1)
    assert sum(counts[outcome] for outcome in OUTCOMES) == 120
    assert tables.bad({"parts": {name: counts}}) == []
    assert 0 < counts["longest_message"] < 1000 and counts["refused"] > 30


def test_bad_outcomes_are_seen(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"units": 7, "layers": [1, 2, 3]}')

    def careless(path):
        import json

        text = path.read_text(errors="replace")
        return {"units": json.loads(text)["units"]}  # KeyError, TypeError

    nonsense = Loader([path], careless, lambda found, wanted: "another number")
    counts = mutate(nonsense, 300, seed=0, keep=tmp_path / "kept")
    assert counts["nonsense"] > 0 and counts["other_exceptions"] > 0
    assert len(tables.bad({"parts": {"plan": counts}})) == 2
    assert len(os.listdir(tmp_path / "kept")) == counts["nonsense"] + counts["other_exceptions"]
    assert path.read_text() == '{"units": 7, "layers": [1, 2, 3]}'


def test_counts_add_up_and_make_tables():
    outcomes = dict.fromkeys(OUTCOMES, 0)
    plan = {**outcomes, "refused": 2499, "nonsense": 1, "longest_message": 90, "examples": {"x": 1}}
    total = added([plan, plan | {"nonsense": 0, "refused": 2500, "longest_message": 70}])
    assert (total["refused"], total["nonsense"], total["longest_message"]) == (4999, 1, 90)
    killed = {**dict.fromkeys(tables.KILLS, 0), "jobs": 2, "kills": {"SIGINT": 3, "SIGKILL": 4}}
    record = {"parts": {"plan": total, "kills": killed}}
    assert tables.bad(record) == ["plan: nonsense 1 {'x': 2}"]
    shown = tables.table(record)
    assert "| plans | 5,000 | 4,999 | 0 | 0 | 1 | 0 |" in shown
    assert "| jobs killed at a random moment | 7 | jobs lost 0, results changed 0," in shown


def test_the_work_in_pieces():
    found = pieces({"kills": 120, "foreign": 1, "plan": 2501}, seed=3)
    assert found == [
        ("kills", 50, 3), ("kills", 50, 53), ("kills", 20, 103), ("foreign", 1, 3),
        ("plan", 2500, 3), ("plan", 1, 2503),
    ]  # fmt: skip


def test_a_hung_job_would_be_seen():
    child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "30")
    assert kills.wait(child, 0.05) is None
    os.kill(child, signal.SIGKILL)
    assert kills.wait(child, 10) == -signal.SIGKILL
