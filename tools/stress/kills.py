"""Jobs that are killed again and again until they have finished.

A job is ``obce compress`` on a tiny model. It runs in a child that is forked from this process,
where PyTorch and transformers are loaded already, so that kills fall into the job and not into its
imports. Its folder for temporary files is its own, and what is left in there is counted.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import obce.jobs.compression  # noqa: F401, so that children need not import it
from obce import cli, tasks
from obce.running import training
from tools.stress.models import TASK, glue_folder, job, tiny_bert

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
# What two runs with equal results differ in: when they ran, how long, and how far the first came.
PASSING = {"date", "environment", "loss", "resumed_from", "seconds", "sha256", "timing"}
CHECKPOINT_SECONDS = 0.1  # so that there are checkpoints to tear
PATIENCE = 60.0  # seconds until a job that was interrupted counts as hung


def result(out: Path) -> dict[str, Any]:
    """What a job has come to: its record without times, its files, the bytes of its model."""

    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: lasting(v) for k, v in value.items() if k not in PASSING}
        return [lasting(v) for v in value] if isinstance(value, list) else value

    files = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    return {
        "record": lasting(json.loads((out / "record.json").read_text(encoding="utf-8"))),
        "files": files,
        "bytes": {
            name: hashlib.sha256((out / name).read_bytes()).hexdigest()
            for name in files
            if name.endswith((".safetensors", "plan.json"))
        },
    }


class Job:
    """One ``obce compress`` in ``folder``, which may be started again and again."""

    def __init__(self, model: Path, glue: Path, folder: Path, *more: str, log: str = "log"):
        self.out, self.folder = folder / "out", folder
        self.arguments = [*job(model, glue, self.out), *more]
        self.temporary = folder / "temporary"
        self.log = folder.with_name(f"{folder.name}.{log}")  # where the disk is not full
        self.temporary.mkdir(parents=True, exist_ok=True)

    def start(self, largest_file: int | None = None) -> int:
        """Fork a child that runs the job; its process id, once it is about to begin.

        ``largest_file``: bytes that a file may have there, as if the disk were full then.
        """
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(ready)
                if largest_file is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
                status = self._run(tell)
            except BaseException as error:  # no traceback may end in this process's frames
                print(f"escaped: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        return child

    def _run(self, tell: int) -> int:
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
        tempfile.tempdir = str(self.temporary)
        training.finetune.__wrapped__.__kwdefaults__["checkpoint_seconds"] = CHECKPOINT_SECONDS
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["obce", *self.arguments]
        status = 1
        try:
            os.write(tell, b"x")
            cli.main()
        except KeyboardInterrupt:  # before main: see obce.__main__
            print("obce: interrupted", file=sys.stderr)
        except SystemExit as stop:
            status = int(stop.code or 0)
        atexit._run_exitfuncs()
        return status

    def lines(self) -> list[str]:
        """What the last run has said on stderr and stdout."""
        return [line for line in self.log.read_text().splitlines() if line.strip()]


def wait(child: int, seconds: float) -> int | None:
    """The exit status of a child (negative for a signal), or None if it is still at work."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


def uninterrupted(folder: Path) -> tuple[tuple[Path, Path], dict[str, Any], float]:
    """A model and a GLUE folder in ``folder``; what a job makes of them; its seconds."""
    inputs = tiny_bert(folder / "model"), glue_folder(folder / "glue")
    tasks.compute_metrics(TASK, np.eye(2), [0, 1])  # imports SciPy and scikit-learn
    gc.collect()
    gc.freeze()  # children collect only what is theirs
    whole = Job(*inputs, folder / "whole")
    start = time.monotonic()
    status = wait(whole.start(), 600)
    if status != 0:
        raise RuntimeError(f"the job fails uninterrupted: {whole.log.read_text()}")
    return inputs, result(whole.out), time.monotonic() - start


def kill_jobs(kills: int, seed: int, folder: Path, name: str | None = None) -> dict[str, Any]:
    """Kill jobs at random moments, ``kills`` times in all, and let each finish.

    Args:
        name: one of SIGNALS; by default they take turns.

    Returns:
        counts: ``jobs``, ``kills`` by signal, ``jobs_lost`` (which the same command did not bring
        to its end), ``results_changed``, ``leftovers`` (files that an uninterrupted job does not
        leave), ``tracebacks`` (of interrupted jobs, where one line should be), ``hung``.
    """
    chance = random.Random(seed)
    inputs, wanted, length = uninterrupted(folder)
    counts: Counter[str] = Counter(jobs=0)
    by_signal: Counter[str] = Counter()
    said: Counter[str] = Counter()
    while by_signal.total() < kills:
        current = Job(*inputs, folder / f"job{counts['jobs']}")
        counts["jobs"] += 1
        status = None
        while status != 0 and by_signal.total() < kills:
            chosen = name or sorted(SIGNALS)[by_signal.total() % len(SIGNALS)]
            child = current.start()
            status = wait(child, chance.uniform(0, length))
            if status is not None:
                counts["jobs_lost"] += status != 0
                break
            by_signal[chosen] += 1
            os.kill(child, SIGNALS[chosen])
            status = wait(child, PATIENCE)
            if status is None:
                counts["hung"] += 1
                os.kill(child, signal.SIGKILL)
                status = wait(child, PATIENCE)
            counts["tracebacks"] += not _one_line(current, status, said)
        if status != 0:
            status = wait(current.start(), 600)
            counts["jobs_lost"] += status != 0
        # A kill may fall between the record and the end; the same command then tidies up.
        wait(current.start(), 600)
        if status == 0:
            found = result(current.out)
            extra = set(found["files"]) - set(wanted["files"])
            counts["leftovers"] += len(extra) + len(os.listdir(current.temporary))
            counts["results_changed"] += any(found[k] != wanted[k] for k in ("record", "bytes"))
            shutil.rmtree(current.folder)
    names = ("jobs", "jobs_lost", "results_changed", "leftovers", "tracebacks", "hung")
    return {
        **{each: counts[each] for each in names},
        "kills": dict(sorted(by_signal.items())),
        "seconds_uninterrupted": round(length, 2),
        "said": dict(said.most_common(5)),
    }


def _one_line(job: Job, status: int | None, said: Counter[str]) -> bool:
    """Whether an interrupted job has ended as it should: silent where it was killed, with one line
    and status 1 where it was asked to stop, or finished before it noticed."""
    lines = job.lines()
    reported = bool(lines) and lines[-1].startswith("model, card, plan and record: ")
    if status in (0, -signal.SIGKILL) or (status == -signal.SIGTERM and reported):
        return True  # after its report a job is done, and SIGTERM ends Python as ever
    last = [line for line in lines if " is torn: " not in line and "starts over" not in line]
    good = status == 1 and len(last) == 1 and last[0].startswith("obce: interrupted")
    said["interrupted, one line" if good else f"status {status}: {' / '.join(lines[-3:])}"] += 1
    return good
