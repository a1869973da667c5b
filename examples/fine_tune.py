"""Build an exported architecture with timm and train it, on a folder of images or on drawn ones.

    tftas-optuna export --best --params-max 6M --out found
    python examples/fine_tune.py found/autoformer-tiny-trial00042.yaml --data-dir my-images

``--data-dir`` is a folder with one folder of images per class. Without it the example draws
striped images, whose direction is the class: enough to see the loss fall on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import timm
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def folder(data_dir: str, model: torch.nn.Module, batch_size: int) -> tuple[int, Batches]:
    """Read images as timm's training does."""
    dataset = create_dataset("", root=data_dir, is_training=True)
    loader = create_loader(
        dataset,
        input_size=resolve_data_config(model=model)["input_size"],
        batch_size=batch_size,
        is_training=True,
        use_prefetcher=False,
        num_workers=2,
    )

    def repeat() -> Batches:
        while True:
            yield from loader

    return len(dataset.reader.class_to_idx), repeat()


def stripes(img_size: int, batch_size: int) -> Batches:
    """Draw images whose stripes lie flat (class 0) or stand (class 1)."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.sin(torch.arange(img_size) / 6).expand(3, img_size, img_size)
    while True:
        labels = torch.randint(2, (batch_size,), generator=generator)
        noise = torch.randn(batch_size, 3, img_size, img_size, generator=generator)
        shape = torch.stack([wave if label else wave.transpose(1, 2) for label in labels])
        yield shape + noise / 2, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", help="an exported file")
    parser.add_argument("--data-dir", help="folder with one folder of images per class")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-4)
    args = parser.parse_args()

    torch.manual_seed(0)
    model = timm.create_model("tftas_autoformer", arch=args.config, drop_path_rate=0.1)
    if args.data_dir:
        num_classes, batches = folder(args.data_dir, model, args.batch_size)
    else:
        num_classes, batches = 2, stripes(model.patch_embed.img_size[0], args.batch_size)
    model.reset_classifier(num_classes)

    optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=args.steps, warmup_epochs=2, warmup_lr=1e-5
    )
    for step in range(args.steps):
        scheduler.step(step)
        images, labels = next(batches)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1:3d}  loss {loss.item():.4f}")
    torch.save(model.state_dict(), "fine_tuned.pt")
    print("saved fine_tuned.pt")


if __name__ == "__main__":
    main()
