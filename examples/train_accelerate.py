"""The training of train.py with Hugging Face accelerate, on one process or on several.

Each rank reads its own part of the windows, so the loader is not given to `accelerator.prepare`,
which would share that part out once more.

accelerate launch --num_processes 2 examples/train_accelerate.py demo/features --epochs 20
"""

import argparse

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from train import loss_and_accuracy

import takestream


def main() -> None:
    """Print the loss of each epoch, over all ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the folder that a job wrote into, or an s3:// URI of one")
    parser.add_argument("--length", type=int, default=8, help="clips of a window")
    parser.add_argument("--batch", type=int, default=4, help="windows of a batch of a rank")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0, help="processes of a rank that read")
    parser.add_argument("--cpu", action="store_true", help="also where there are GPUs")
    given = parser.parse_args()

    accelerator = Accelerator(cpu=given.cpu)
    torch.manual_seed(0)
    # Made after the Accelerator, which starts the process group that the rank is taken from.
    windows = takestream.Windows(given.output, length=given.length, batch_size=given.batch)
    loader = DataLoader(windows, batch_size=given.batch, num_workers=given.workers)
    head = nn.Sequential(nn.LayerNorm(windows.dim), nn.Linear(windows.dim, 128))
    head, optimiser = accelerator.prepare(head, torch.optim.AdamW(head.parameters(), lr=1e-3))
    for epoch in range(given.epochs):
        windows.set_epoch(epoch)
        seen: list[Tensor] = []
        for batch in loader:
            moved = {name: batch[name].to(accelerator.device) for name in ("features", "mask")}
            loss, _ = loss_and_accuracy(head, moved)
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
            seen.append(loss.detach())
        total = accelerator.reduce(torch.stack(seen).mean(), "mean")
        count = accelerator.reduce(torch.tensor(len(windows), device=accelerator.device), "sum")
        accelerator.print(f"epoch {epoch}: loss {total:.3f} over {count} windows")
    accelerator.end_training()


if __name__ == "__main__":
    main()
