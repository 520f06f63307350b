"""Many processes: two give what one gives, bit for bit where nothing is summed across them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import many_processes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from obce.base import distributed
from obce.running import loading, records, training

HERE = Path(__file__).parent


def launch(processes, *command, folder):
    """Run a program in several processes, as users do; loopback only, and on the CPU, since a
    machine may have fewer GPUs than processes."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={processes}", *map(str, command)],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path]),
            "CUDA_VISIBLE_DEVICES": "",
        },
    )  # fmt: skip


def found_by(processes, folder, texts):
    """What each process finds: arrays and facts."""
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    done = launch(processes, HERE / "many_processes.py", folder, folder=folder)
    assert done.returncode == 0, done.stderr
    ranks = range(processes)
    facts = [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in ranks]
    facts[0]["stderr"] = done.stderr
    return [(load_file(folder / f"{rank}.safetensors"), facts[rank]) for rank in ranks]


@pytest.fixture(scope="module")
def one(tmp_path_factory, sentences):
    return found_by(1, tmp_path_factory.mktemp("one"), sentences)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory, sentences):
    return found_by(2, tmp_path_factory.mktemp("two"), sentences)


def named(arrays, *starts):
    found = [name for name in arrays if name.startswith(starts)]
    assert found
    return found


# Sharing out, by hand


def test_shares_by_hand():
    # 7 units on 3 processes: 2, 2 and 3
    assert [distributed.share(7, p, 3) for p in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 7)]


@given(count=st.integers(0, 50), processes=st.integers(1, 60))
def test_shares_are_equal_and_whole(count, processes):
    parts = [range(count)[distributed.share(count, p, processes)] for p in range(processes)]
    assert [unit for part in parts for unit in part] == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_a_plain_process_is_alone():
    assert (distributed.rank(), distributed.size(), distributed.is_main()) == (0, 1, True)
    block = torch.arange(6.0).view(2, 3)
    assert distributed.transpose(block, [2]) is block and distributed.gather(block, [2]) is block
    assert distributed.any_of(True, False) == [True, False]
    with distributed.joined():
        assert distributed.size() == 1
    assert distributed.by_main(lambda: {"a": 1}) == {"a": 1}
    with pytest.raises(OSError, match="full"), distributed.together():
        raise OSError("full")
    assert distributed.mine([3, 1, 2]) == [3, 1, 2] and distributed.first_to_fail()


@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    most=st.integers(1, 40),
    processes=st.integers(1, 5),
)
def test_pieces_hold_every_batch_once_and_stay_small(rows, most, processes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "size", lambda: processes)
        pieces = list(distributed._pieces(rows, most))
    flat = [count for piece in pieces for one_round in piece for count in one_round]
    assert flat[: len(rows)] == rows and not any(flat[len(rows) :])
    for piece in pieces:
        assert all(len(one_round) == processes for one_round in piece)
        assert len(piece) == 1 or max(map(sum, zip(*piece, strict=True))) <= most


@given(count=st.integers(1, 30), batch=st.integers(1, 4), processes=st.integers(1, 4))
def test_every_row_counts_once_an_epoch(count, batch, processes):
    """The sum of the weights of all processes' rows, as gradients are averaged, is a mean."""
    per_step = batch * processes
    trainer = training._Trainer.__new__(training._Trainer)
    trainer.train_dataset, trainer.rows_per_step = range(count), per_step
    weights = np.zeros(count)
    lengths = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "size", lambda: processes)
        for rank in range(processes):
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            batches = list(training._Shares(range(count), per_step, drop_last=False))
            lengths.add(len(batches))
            for step, rows in enumerate(batches):
                trainer.state = type("State", (), {"global_step": step})
                weights[rows] += trainer._weight() / len(rows) / processes
    assert len(lengths) == 1  # the processes make equally many steps
    sizes = [min(per_step, count - start) for start in range(0, count, per_step)]
    np.testing.assert_allclose(weights, np.repeat([1 / size for size in sizes], sizes))


# Two processes beside one


def test_scores_are_the_same_bit_for_bit(one, two):
    arrays, facts = one
    names = named(arrays, "merge_radius", "std", "taylor", "medians", "few")
    assert len(names) == 12 * (2 * 4 + 1) + 2
    for found, others in two:
        assert others["order"] == facts["order"]
        for name in names:
            assert found[name].dtype == arrays[name].dtype
            np.testing.assert_array_equal(found[name], arrays[name], err_msg=name)


def test_summaries_of_a_stream_are_the_same_bit_for_bit(one, two):
    arrays, facts = one
    assert len(facts["streamed"]["passes"]) > 1
    for found, others in two:
        assert others["streamed"] == facts["streamed"]
        for name in named(arrays, "stream"):
            np.testing.assert_array_equal(found[name], arrays[name], err_msg=name)
            collected = name.replace("stream", "merge_radius tokens")
            np.testing.assert_array_equal(found[name], arrays[collected], err_msg=name)


def test_each_process_holds_its_share(one, two):
    assert [facts["held"] for _, facts in two] == [[0, 10], [10, 21]]
    parts = [facts["bytes on disk"] for _, facts in two]
    assert sum(parts) == one[1]["bytes on disk"]
    assert max(parts) < 0.53 * sum(parts)
    assert one[1]["all units"] is None
    for (_, facts), held in zip(two, ("0 up to 10", "10 up to 21"), strict=True):
        assert facts["all units"].startswith("ValueError: layer 0, query: of 21 units, process")
        assert f"{held}, not 0 up to 21" in facts["all units"]


def test_repair(one, two):
    arrays, facts = one
    (first, fits), (second, _) = two
    for name in named(arrays, "least_squares", "constant"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], arrays[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(fits["fits"], facts["fits"], rtol=1e-6)
    # the sums of one process alone would give another fit
    assert all(after < before for before, after in facts["fits"])


def test_logits(one, two):
    for found, _ in two:
        np.testing.assert_array_equal(found["logits"], one[0]["logits"])


def test_finetuning(one, two):
    arrays, facts = one
    (first, told), (second, also) = two
    assert facts["tuned"]["steps"] == told["tuned"]["steps"] == 6
    assert told["tuned"] == also["tuned"]
    assert told["tuned"]["loss"] == pytest.approx(facts["tuned"]["loss"], rel=1e-4)
    start = many_processes.make_model().state_dict()
    for name in named(arrays, "tuned"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        # Attention does not see a key's bias: its gradient is rounding, which AdamW makes a step.
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(first[name], arrays[name], atol=2e-4, err_msg=name)
    moved = first["tuned classifier.weight"] - start["classifier.weight"].numpy()
    assert np.abs(moved).max() > 1e-3


def test_resuming(one, two):
    for found, facts in (one, *two):
        assert facts["interrupted"] == "KeyboardInterrupt: "
        assert facts["resumed from"] == 2
        for name in named(found, "tuned"):
            np.testing.assert_array_equal(found[name], found[name.replace("tuned", "resumed", 1)])


def test_what_fails_on_one_process_ends_all_with_its_line(one, two):
    for _, facts in (one, *two):
        assert facts["NaN outputs"].startswith("ValueError: layer 0, query: the model puts out")
        assert facts["NaN loss"].startswith("ValueError: the loss became nan at step")
        assert facts["NaN loss"] == one[1]["NaN loss"]
        assert facts["left behind"] is False
        assert facts["full disk"] == "OSError: no space left on device"
    assert one[1]["seven rows"] is None
    for _, facts in two:
        assert "batch_size=7 rows cannot be shared equally by 2" in facts["seven rows"]


# The command line


def test_bad_input_is_one_line_and_status_2(two):
    assert [facts["status"] for _, facts in two] == [2, 2]
    assert two[0][1]["stderr"].count("obce: ") == 1
    assert "obce: unknown task 'mini-nonsense'" in two[0][1]["stderr"]


@pytest.mark.long
def test_command_line(tmp_path, tokenizer):
    """The main job by two processes: one table, one record, a model that loads."""
    for part in (many_processes.make_model().bert, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    done = launch(
        2, "-m", "obce", "compress", "tiny", "--task=mini-sentiment", "--out=out",
        "--percentile=50", "--texts=24", "--repair-texts=24", "--train-limit=24",
        "--dev-limit=13", "--epochs=1", "--batch-size=12", "--device=cpu", "--quiet",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model, card, plan and record: out") == 1
    record = json.loads((tmp_path / "out" / "record.json").read_text(encoding="utf-8"))
    assert list(record["stages"]) == ["cut", "dense", "repaired"]
    assert record["stages"]["repaired"]["environment"]["processes"] == 2
    assert record["stages"]["repaired"]["rows_used"] == 13
    small = loading.load_classifier(tmp_path / "out", "mini-sentiment").model
    again = records.model_sha256(small)
    assert again == record["stages"]["repaired"]["model_sha256"]
