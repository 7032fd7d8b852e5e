"""torchrun: several processes train one model, each on its share of every batch.

    torchrun --shutdown-timeout 3600 --nproc-per-node 2 -m training.finetune RECIPE.toml --data PATH

So it is with ``training.pretrain``. All read the same texts in the same order, drawn from the same
seed. The work of training is divided, and what a language model says of held-back texts; a
classifier is evaluated by each. So one process gives what several give, up to rounding; but where a
recipe of finetune distils, each process draws its share of the teacher's texts in an order of its
own. After Ctrl-C torchrun lets a process go on for so many seconds, 30 unless told, while the run
is measured and saved.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.packing import pack, within_budget
from training.config import TrainingError
from training.data import Batch
from training.documents import Window

# Gradients, or entries of them, that processes tell each other at once: 4 MB.
_ENTRIES_AT_ONCE = 1 << 20


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Joins the processes that torchrun started: gloo on CPUs, nccl on GPUs. Alone, does nothing.

    Yields:
        The device of this process: with nccl, a GPU of its own. What any process but the first
        prints is dropped.

    Raises:
        TrainingError: there are fewer GPUs on this machine than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = _own_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield device
    finally:
        dist.destroy_process_group()


def _own_gpu(local_rank: int, num_gpus: int) -> torch.device:
    if local_rank >= num_gpus:
        raise TrainingError(
            f"process {local_rank + 1} on this machine finds {num_gpus} GPU(s), and each needs its "
            f"own: torchrun --nproc-per-node {num_gpus}, or --device cpu."
        )
    return torch.device("cuda", local_rank)


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process prints and saves."""
    return rank() == 0


def num_processes() -> int:
    """How many share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_batch_size(batch_size: int, num_texts: int) -> None:
    """Refuses a batch of fewer texts than processes, or of more than there are to train on.

    Raises:
        TrainingError: such a batch.
    """
    if num_texts < batch_size:
        raise TrainingError(
            f"there are {num_texts} texts to train on, fewer than one batch of {batch_size}: give "
            "more, or lower batch_size in the recipe."
        )
    if batch_size < num_processes():
        raise TrainingError(
            f"batch_size is {batch_size}, {num_processes()} processes need a text each."
        )


def share_of(batch: Batch) -> Batch:
    """This process's texts of a batch, a fair share of its tokens; alone, all of them."""
    if not dist.is_initialized():
        return batch
    chosen = _own_numbers(batch.packed.lengths)
    starts = batch.packed.cu_seqlens.tolist()
    rows = [torch.arange(starts[i], starts[i + 1]) for i in chosen]
    texts = [batch.packed.input_ids[own].tolist() for own in rows]
    every_row = torch.cat(rows)
    return Batch(
        pack(texts, causal=batch.packed.causal),
        batch.labels[chosen],
        batch.token_labels[every_row],
        None if batch.hidden is None else batch.hidden[every_row],
        None if batch.log_odds is None else batch.log_odds[every_row],
    )


def share_of_windows(windows: list[Window]) -> list[Window]:
    """This process's windows of a batch, a fair share of its tokens; alone, all of them."""
    if not dist.is_initialized():
        return windows
    return [windows[number] for number in _own_numbers([len(window) for window in windows])]


def _own_numbers(lengths: Sequence[int]) -> list[int]:
    """Which texts of these lengths are this process's: the next longest is whose has the least."""
    shares: list[list[int]] = [[] for _ in range(num_processes())]
    sizes = [0] * len(shares)
    for number in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(number)
        sizes[least] += lengths[number]
    return shares[rank()]


def check_batch_tokens(batch_tokens: int, n_positions: int) -> None:
    """Refuses batches in which there may be fewer windows than processes.

    Raises:
        TrainingError: such batches.
    """
    if batch_tokens < (needed := num_processes() * n_positions):
        raise TrainingError(
            f"batch_tokens is {batch_tokens}, {num_processes()} processes need {needed}: "
            f"{n_positions} each, as many as the longest text."
        )


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of all processes' values, the same in each; overwrites ``value``."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def mean_over_processes(
    read: Callable[[list[Window]], tuple[float, int]],
    batches: Iterable[list[Window]],
    device: torch.device,
) -> float:
    """The mean over batches, of which each process reads its share; the same in each.

    Args:
        read: gives a batch's mean and its weight.
        batches: the same in each process.
        device: of this process.
    """
    own = [read(batch) for batch in islice(batches, rank(), None, num_processes())]
    sums = (sum(mean * weight for mean, weight in own), sum(weight for _, weight in own))
    total, weight = sum_over_processes(torch.tensor(sums, dtype=torch.float64, device=device))
    return float(total / weight)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Puts the sum of all processes' gradients in place of each process's own."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for gradient in gradients:
        # Alone: beside another sum gloo's of sparse ones corrupts the heap (torch 2.13).
        if gradient.is_sparse:
            dist.all_reduce(gradient)
    dense = [gradient for gradient in gradients if not gradient.is_sparse]
    groups = list(within_budget(dense, Tensor.numel, _ENTRIES_AT_ONCE))
    started = [(group, *_start_sum(group)) for group in groups]
    for group, work, summed in started:
        work.wait()
        if len(group) > 1:
            sizes = [gradient.numel() for gradient in group]
            for gradient, part in zip(group, torch.split(summed, sizes), strict=True):
                gradient.copy_(part.view_as(gradient))


def _start_sum(gradients: Sequence[Tensor]) -> tuple[dist.Work, Tensor]:
    """Begins to sum gradients as one vector, or a single one in place."""
    if len(gradients) == 1:
        summed = gradients[0]
    else:
        summed = torch.cat([gradient.flatten() for gradient in gradients])
    return dist.all_reduce(summed, async_op=True), summed


def divide_work(work: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """``work`` on each tensor, done by one of the processes and told to all; alone, on each.

    Args:
        work: gives a tensor of the same shape and type; takes longer the larger it is.
        tensors: the same in each process.
    """
    if not dist.is_initialized():
        return [work(tensor) for tensor in tensors]
    by_size = sorted(range(len(tensors)), key=lambda number: tensors[number].numel())
    done = list(tensors)
    told = []
    for place, number in enumerate(by_size):
        owner = place % num_processes()
        if owner == rank():
            done[number] = work(tensors[number]).contiguous()
        else:
            done[number] = torch.empty_like(tensors[number])
        told.append(dist.broadcast(done[number], src=owner, async_op=True))
    for told_by_owner in told:
        told_by_owner.wait()
    return done


def of_first(value: float) -> float:
    """The first process's value, so that all decide alike where theirs differ by rounding."""
    if not dist.is_initialized():
        return value
    backend_device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, dtype=torch.float64, device=backend_device)
    dist.broadcast(shared, src=0)
    return float(shared)
