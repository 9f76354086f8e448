"""Out of memory: the batch is halved, said in a line, and nothing is lost or done twice."""

import pytest
import torch

from response_generator.errors import RunError
from response_generator.generation.generation_requests import BatchLimit
from response_generator.generation.oom import reduce_rows_on_oom, split_on_oom

CPU = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
OUT_OF_MEMORY = {
    "a card's": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "a processor's": lambda: RuntimeError(CPU),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_it_halves_where_it_must_and_says_so(error, capsys):
    sizes = []

    def work(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise OUT_OF_MEMORY[error]()
        return [item * 10 for item in batch]

    assert split_on_oom(work, range(10)) == [item * 10 for item in range(10)]
    assert sizes == [10, 5, 3, 2, 5, 3, 2]
    assert split_on_oom(work, range(4)) == [0, 10, 20, 30]
    assert sizes[7:] == [4, 2, 2]  # tried whole, whatever came before
    said = capsys.readouterr().err
    assert "out of memory with 10 rows at once; continuing with 5" in said
    assert "out of memory with 5 rows at once; continuing with 3" in said


def test_a_single_row_that_does_not_fit_ends_the_run():
    def work(batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(RunError, match="out of memory with a single row"):
        split_on_oom(work, range(2))


def test_other_errors_are_not_taken_for_it():
    def work(batch):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        split_on_oom(work, range(2))


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_the_limit_is_halved_until_the_work_fits(error, capsys):
    limits = []

    def work(limit):
        limits.append(limit)
        if limit.rows > 2:
            raise OUT_OF_MEMORY[error]()
        return "done"

    assert reduce_rows_on_oom(work, BatchLimit(9, 1000)) == "done"
    assert limits == [BatchLimit(9, 1000), BatchLimit(4, 500), BatchLimit(2, 250)]
    assert "out of memory with 4 rows at once; continuing with 2" in capsys.readouterr().err


def test_a_limit_of_one_row_that_does_not_fit_ends_the_run():
    def work(limit):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(RunError, match="out of memory with a single row"):
        reduce_rows_on_oom(work, BatchLimit(2))
