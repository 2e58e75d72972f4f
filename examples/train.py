"""Train on windows: a projection in which the cameras of a moment find each other.

Each window gives pairs of two cameras at the same clips. The loss is InfoNCE over the clips of a
batch, so negatives are other moments.

python examples/train.py demo/features --length 4 --epochs 40
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

import takestream


def pairs(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Two different random streams of every clip that at least two streams show; float [N, D]."""
    features, mask = batch["features"].flatten(0, 1), batch["mask"].flatten(0, 1)
    kept = mask.sum(1) >= 2
    chosen = torch.multinomial(mask[kept].float(), 2)
    rows = torch.arange(len(chosen))
    return features[kept][rows, chosen[:, 0]], features[kept][rows, chosen[:, 1]]


def loss_and_accuracy(head: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
    """InfoNCE, and how often the right moment is the nearest."""
    a, b = (normalize(head(side), dim=-1) for side in pairs(batch))
    scores = a @ b.T / 0.1
    right = torch.arange(len(a))
    return cross_entropy(scores, right), float((scores.argmax(1) == right).float().mean())


def main() -> None:
    """Print the loss of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the folder that a job wrote into, or an s3:// URI of one")
    parser.add_argument("--streams", nargs="+", help="names or patterns; all by default")
    parser.add_argument("--length", type=int, default=8, help="clips of a window")
    parser.add_argument("--batch", type=int, default=4, help="windows of a batch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0, help="processes that read")
    given = parser.parse_args()

    torch.manual_seed(0)
    windows = takestream.Windows(
        given.output, streams=given.streams, length=given.length, step=given.length // 2 or 1,
        batch_size=given.batch,
    )  # fmt: skip
    loader = DataLoader(windows, batch_size=given.batch, num_workers=given.workers)
    dim = next(iter(loader))["features"].shape[-1]
    head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 128))
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    print(f"{len(loader)} batches of {', '.join(windows.streams)}; {dim} numbers per clip")
    for epoch in range(given.epochs):
        windows.set_epoch(epoch)
        seen = []
        for batch in loader:
            loss, accuracy = loss_and_accuracy(head, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append((loss.item(), accuracy))
        loss, accuracy = torch.tensor(seen).mean(0).tolist()
        print(f"epoch {epoch}: loss {loss:.3f}, right moment found {accuracy:.0%}")


if __name__ == "__main__":
    main()
