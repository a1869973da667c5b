# %% [markdown]
# # A training loop of your own
#
# timm builds a published architecture, or an exported file, and a short loop trains it on a
# folder of images or on drawn ones. For whole trainings there is `tftas-optuna retrain`. Cells
# begin with `# %%`; `python examples/fine_tune.py` runs them all.

# %%
from collections.abc import Iterator

import timm
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)
from tftas_optuna.spaces import find_architecture

ARCH = find_architecture("tf-tas-tiny")  # or the path of a file of `tftas-optuna export`
DATA_DIR = ""  # a folder with one folder of images per class; drawn ones without it
STEPS = 20
BATCH_SIZE = 8
LR = 3e-4

# %% [markdown]
# ## The network

# %%
torch.manual_seed(0)
model = timm.create_model("tftas_autoformer", arch=ARCH, drop_path_rate=0.1)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %% [markdown]
# ## Images
#
# Images of a folder are read as in timm's training. The drawn ones have stripes, whose direction
# is the class: enough to see the loss fall on a CPU.

# %%
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def folder(data_dir: str) -> tuple[int, Batches]:
    """Read images; return how many classes they have, too."""
    dataset = create_dataset("", root=data_dir, is_training=True)
    loader = create_loader(
        dataset,
        input_size=resolve_data_config(model=model)["input_size"],
        batch_size=BATCH_SIZE,
        is_training=True,
        use_prefetcher=False,
        num_workers=2,
    )

    def repeat() -> Batches:
        while True:
            yield from loader

    return len(dataset.reader.class_to_idx), repeat()


def stripes(img_size: int) -> Batches:
    """Draw images whose stripes lie flat (class 0) or stand (class 1)."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.sin(torch.arange(img_size) / 6).expand(3, img_size, img_size)
    while True:
        labels = torch.randint(2, (BATCH_SIZE,), generator=generator)
        noise = torch.randn(BATCH_SIZE, 3, img_size, img_size, generator=generator)
        shape = torch.stack([wave if label else wave.transpose(1, 2) for label in labels])
        yield shape + noise / 2, labels


num_classes, batches = (
    folder(DATA_DIR) if DATA_DIR else (2, stripes(model.patch_embed.img_size[0]))
)
model.reset_classifier(num_classes)

# %% [markdown]
# ## The loop

# %%
optimizer = create_optimizer_v2(model, opt="adamw", lr=LR, weight_decay=0.05)
scheduler, _ = create_scheduler_v2(
    optimizer, sched="cosine", num_epochs=STEPS, warmup_epochs=2, warmup_lr=1e-5
)
for step in range(STEPS):
    scheduler.step(step)
    images, labels = next(batches)
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step + 1:3d}  loss {loss.item():.4f}")
torch.save(model.state_dict(), "fine_tuned.pt")
print("saved fine_tuned.pt")
