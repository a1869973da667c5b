# %% [markdown]
# # From an untrained front to a deployed network
#
# Search untrained, train the front together, search again on the trained weights for accuracy, and
# fine-tune one: the whole way, on scikit-learn's digits (the extras `benchmarks` and `onnx`). It
# takes some minutes on a CPU and writes into the folder `digits`. Each `# %%` begins a cell.

# %%
from pathlib import Path

import numpy as np
import onnxruntime
import optuna
import timm
from PIL import Image
from sklearn.datasets import load_digits

from tftas_optuna import get_space, pareto_front, retrain, retrain_shared, search
from tftas_optuna.export.networks import export_network

N_TRIALS = 200
EPOCHS_TOGETHER = 60
EPOCHS_ALONE = 5
BUDGET = 40_000
OUT = Path("digits")

optuna.logging.set_verbosity(optuna.logging.WARNING)

# %% [markdown]
# ## Images
#
# One folder for each class, in `train`, `val` and `test`. Training sees the first, the search for
# accuracy the second; the third is kept for the figures at the end.

# %%
digits = load_digits()
SPLITS = ("train", "val", "train", "test", "train")
for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = OUT / "images" / SPLITS[i % 5] / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / f"{i:04}.png")

# %% [markdown]
# ## A space

# %%
SPACE = """\
name: digits
family: autoformer
img_size: 8
num_classes: 10
patch_size: 2
head_dim: 16
max_relative_position: 3
embed_dim: [24, 32, 40, 48]
depth: [2, 3, 4]
num_heads: [1, 2, 3]
mlp_ratio: [1, 2, 3, 4]
"""
(OUT / "space.yaml").write_text(SPACE)
space = get_space(OUT / "space.yaml")

# %% [markdown]
# ## Search untrained
#
# In seconds: the networks of most DSS for their parameters.

# %%
storage = f"sqlite:///{OUT}/studies.db"
untrained = search(space, n_trials=N_TRIALS, storage=storage, study_name="untrained")
front = pareto_front(untrained)
print(f"{len(front)} members of the untrained front")

# %% [markdown]
# ## Train the front together
#
# All members are slices of one supernet. Every step trains one of them.

# %%
shared = retrain_shared(
    front,
    study=untrained,
    data_dir=OUT / "images",
    recipe="quick",
    overrides={"epochs": EPOCHS_TOGETHER},
    out=OUT / "trained",
)
print(f"together: {shared['top1']:.1f} % on average, in {shared['out']}")

# %% [markdown]
# ## Search again, for accuracy
#
# On the trained weights a candidate has an accuracy in milliseconds, members or not. The objective
# sees the images of `val`; the front's accuracies on `test` are computed in the end.

# %%
accurate = search(
    space,
    n_trials=N_TRIALS,
    objectives=("accuracy", "n_params"),
    supernet=shared["out"],
    data_dir=str(OUT / "images"),
    storage=storage,
    study_name="accurate",
)
front = pareto_front(accurate)
for member in front:
    print(f"{member.n_params:7,} parameters, accuracy {member.values['accuracy']:.1f} %")
best = max((c for c in front if c.n_params <= BUDGET), key=lambda c: c.values["accuracy"])

# %% [markdown]
# ## Fine-tune one
#
# It starts from its slices, and is evaluated on the images that no search has seen.

# %%
result = retrain(
    best,
    study=accurate,
    weights=shared["out"],
    data_dir=OUT / "images",
    val_split="test",
    recipe="quick",
    overrides={"epochs": EPOCHS_ALONE, "warmup_epochs": 0},
    out=OUT / "trained",
)
print(f"trial {best.trial}, fine-tuned: top-1 {result['top1']:.1f} % of test")

# %% [markdown]
# ## Deploy it
#
# As ONNX, which runs where neither PyTorch nor this package is installed.

# %%
model = timm.create_model(f"local-dir:{result['out']}", pretrained=True).eval()
path, _ = export_network(model, OUT / "network", "onnx", trained=True, force=True)
session = onnxruntime.InferenceSession(path)
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
names = model.pretrained_cfg["label_names"]
right = []
for picture in sorted((OUT / "images" / "test").glob("*/*.png")):
    image = transform(Image.open(picture).convert("RGB"))[None].numpy()
    (logits,) = session.run(None, {"images": image})
    right.append(names[logits.argmax()] == picture.parent.name)
print(f"{path}: {100 * np.mean(right):.1f} % of test")
