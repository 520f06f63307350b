"""Full disks, two jobs in one folder, checkpoints that want code run, and no network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from obce import cli
from obce.base.files import PREFIX, read_json
from tools.stress.kills import Job, result, uninterrupted, wait
from tools.stress.models import TASK, glue_folder, job, tiny_bert


def broken_files(folder: Path) -> list[str]:
    """Files that do not hold what their suffix says, and leftovers; checkpoints may be torn."""
    broken = [str(path) for path in folder.rglob(f"{PREFIX}*")]
    for path in folder.rglob("*"):
        if "checkpoints" in path.parts or any(part.startswith(PREFIX) for part in path.parts):
            continue
        try:
            if path.suffix == ".json":
                read_json(path)
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    file.keys()
        except Exception:
            broken.append(str(path))
    return broken


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    """A disk of so many KiB at ``folder``; root alone may make one.

    Raises:
        OSError: it cannot be made here.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=700", "obce-stress", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise OSError("no disk can be made here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disks(disks: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run jobs on disks that become full, half by a limit on the size of files and half, where
    this process is root, by a small disk; then make room and run the same command again.

    Returns:
        counts: ``full``, of which ``small_disks``; ``not_one_line`` (a job that said anything else
        than one line with the folder's name, or had another status than 1), ``half_written``
        (files), ``jobs_lost``, ``results_changed``.
    """
    chance = random.Random(seed)
    inputs, wanted, _ = uninterrupted(folder)
    names = ("full", "small_disks", "not_one_line", "half_written", "jobs_lost", "results_changed")
    counts: Counter[str] = Counter()
    said: Counter[str] = Counter()

    def look(job: Job, status: int | None) -> None:
        counts["full"] += 1
        lines = job.lines()
        good = status == 1 and len(lines) == 1 and str(job.folder) in lines[0]
        counts["not_one_line"] += not good
        counts["half_written"] += len(broken_files(job.out))
        if not good:
            said[f"status {status}: {' / '.join(lines)}"] += 1

    def again(job: Job) -> None:
        status = wait(job.start(), 600)
        counts["jobs_lost"] += status != 0
        found = result(job.out) if status == 0 else wanted
        counts["results_changed"] += any(found[name] != wanted[name] for name in found)

    for number in range(disks):
        place = folder / f"disk{number}"
        try:
            if number % 2 == 0:
                raise OSError
            with small_disk(place, chance.randrange(40, 400, 4)):
                job = Job(*inputs, place)
                status = wait(job.start(), 600)
                if status == 0:  # it was large enough
                    continue
                look(job, status)
                counts["small_disks"] += 1
                options = ["mount", "-o", "remount,size=100m", str(place)]
                subprocess.run(options, check=True)
                again(job)
        except OSError:
            job = Job(*inputs, place)
            status = wait(job.start(chance.randrange(100, 60_000)), 600)
            if status == 0:
                continue
            look(job, status)
            again(job)
            shutil.rmtree(place)
    return {**{name: counts[name] for name in names}, "said": dict(said)}


def pair_jobs(pairs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Start two jobs with different arguments in one folder at nearly the same time.

    Returns:
        counts: ``pairs``; ``both_succeeded`` (one result would be lost), ``neither_succeeded``,
        ``not_one_line`` (of the one that was refused), ``results_changed``.
    """
    chance = random.Random(seed)
    inputs, wanted, length = uninterrupted(folder)
    names = ("pairs", "both_succeeded", "neither_succeeded", "not_one_line", "results_changed")
    counts: Counter[str] = Counter()
    for number in range(pairs):
        place = folder / f"pair{number}"
        first = Job(*inputs, place, log="first")
        second = Job(*inputs, place, "--seed", "1", log="second")
        children = [first.start()]
        early = wait(children[0], chance.choice((0, 0.1, length / 4, length / 2)))
        children.append(second.start())
        statuses = [early if early is not None else wait(children[0], 600)]
        statuses.append(wait(children[1], 600))
        counts["pairs"] += 1
        counts["both_succeeded"] += statuses == [0, 0]
        counts["neither_succeeded"] += 0 not in statuses
        for each, status in zip((first, second), statuses, strict=True):
            if status != 0:
                counts["not_one_line"] += len(each.lines()) != 1 or status not in (1, 2)
        if statuses[0] == 0:
            found = result(first.out)
            counts["results_changed"] += any(found[name] != wanted[name] for name in found)
        shutil.rmtree(place)
    return {name: counts[name] for name in names}


# In this process


def command(arguments: list[str]) -> tuple[int, str]:
    """Run a command in this process; its exit status and what it has said."""
    before, said = sys.argv, io.StringIO()
    sys.argv = ["obce", *arguments]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as stop:
        return int(stop.code or 0), said.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("main returned")


@contextlib.contextmanager
def no_network() -> Iterator[list[str]]:
    """Every attempt to reach another machine fails, and is listed."""
    attempts: list[str] = []
    before = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(*args: Any, **kwargs: Any) -> Any:
        attempts.append(repr(args[-2:])[:100])
        raise OSError("there is no network")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    try:
        yield attempts
    finally:
        socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = before


def without_network(folder: Path) -> dict[str, Any]:
    """Commands on local models and data, with a guard on every connection.

    Returns:
        ``commands``, ``failed`` of them, ``connections`` attempted.
    """
    model, glue = tiny_bert(folder / "model", TASK), glue_folder(folder / "glue")
    data = ["--task", TASK, "--glue-dir", str(glue), "--device", "cpu", "--quiet"]
    compressed = folder / "out"
    commands = [
        job(model, glue, compressed),
        ["evaluate", str(compressed), *data],
        ["evaluate", "embedded", "--task", "mini-sentiment", "--limit", "4", "--quiet"],
        ["analyze", str(model), "--out", str(folder / "analysis"), "--texts", "8", *data],
    ]
    with no_network() as attempts:
        statuses = [command(arguments)[0] for arguments in commands]
    # The embedded model has no head for a task: that is refused, without a look at the network.
    wanted = [0, 0, 2, 0]
    return {
        "commands": len(commands),
        "failed": sum(a != b for a, b in zip(statuses, wanted, strict=True)),
        "connections": len(attempts),
    }


class _Evil:
    """Unpickled, it writes a file: what a checkpoint must never get to do."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (os.makedirs, (str(self.marker),))


def foreign_checkpoints(folder: Path) -> dict[str, Any]:
    """Checkpoints that want code run: by ``auto_map``, by a pickle, by a module's name.

    Returns:
        ``checkpoints``; ``ran_code`` (of them); ``carried_on`` (foreign code, or a reference to it,
        in the folder of the compressed model).
    """
    marker = folder / "marker"
    glue = glue_folder(folder / "glue")
    code = f"import os\nos.makedirs({str(marker)!r}, exist_ok=True)\nclass Evil: pass\n"
    counts: Counter[str] = Counter()

    def edit(path: Path, **changes: Any) -> None:
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(old | changes), encoding="utf-8")

    def by_config(model: Path) -> None:
        names = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
        edit(model / "config.json", auto_map={name: "evil.Evil" for name in names})

    def by_tokenizer(model: Path) -> None:
        path = model / "tokenizer_config.json"
        edit(path, auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})

    def by_tokenizer_class(model: Path) -> None:
        edit(model / "tokenizer_config.json", tokenizer_class="Evil")

    def by_pickled_weights(model: Path) -> None:
        (model / "model.safetensors").unlink()
        torch.save({"bert": _Evil(marker)}, model / "pytorch_model.bin")

    def by_pickled_arguments(model: Path) -> None:
        (model / "training_args.bin").write_bytes(pickle.dumps(_Evil(marker)))

    def by_module(model: Path) -> None:
        modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]
        (model / "modules.json").write_text(json.dumps(modules), encoding="utf-8")

    ways = (by_config, by_tokenizer, by_tokenizer_class, by_pickled_weights,
            by_pickled_arguments, by_module)  # fmt: skip
    for way in ways:
        model = tiny_bert(folder / way.__name__, TASK)
        (model / "evil.py").write_text(code, encoding="utf-8")
        way(model)
        out = folder / f"{way.__name__}-out"
        status, _ = command(job(model, glue, out))
        counts["checkpoints"] += 1
        counts["refused"] += status == 2
        counts["ran_code"] += marker.exists()
        if marker.exists():
            marker.rmdir()
        if out.exists():
            files = [path for path in out.rglob("*") if path.suffix in (".json", ".py", ".md")]
            text = "".join(path.read_text(encoding="utf-8") for path in files)
            counts["carried_on"] += "evil" in text.lower().replace(model.name, "")
    return {name: counts[name] for name in ("checkpoints", "refused", "ran_code", "carried_on")}
