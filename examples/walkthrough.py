# %% [markdown]
# # From a space of your own to a trained model
#
# Each `# %%` begins a cell: run them one by one in an editor that supports cells, make a notebook
# with `jupytext --to ipynb`, or run all with `python examples/walkthrough.py`. It takes less than
# a minute on a CPU, writes into the folder `walkthrough`, and needs the extra `plot` for the
# report.

# %%
from pathlib import Path

import numpy as np
import optuna
import timm
import torch
from PIL import Image

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)
from tftas_optuna import get_space, pareto_front, retrain, search
from tftas_optuna.export import export_candidates
from tftas_optuna.report import write_report

N_TRIALS = 200
BUDGET = 100_000
N_IMAGES = 1000
OUT = Path("walkthrough")

OUT.mkdir(exist_ok=True)
optuna.logging.set_verbosity(optuna.logging.WARNING)

# %% [markdown]
# ## A space
#
# It says what images it is for, what all networks have in common, and what may be chosen.

# %%
SPACE = """\
name: stripes
family: autoformer
img_size: 32
num_classes: 2
patch_size: 4
head_dim: 16
max_relative_position: 7
embed_dim: [32, 48, 64]
depth: [2, 3, 4]
num_heads: [1, 2, 3]
mlp_ratio: [1, 2, 4]
"""
(OUT / "stripes.yaml").write_text(SPACE)
space = get_space(OUT / "stripes.yaml")
ends = [
    arch.costs(img_size=32, in_chans=3, num_classes=2).n_params
    for arch in (space.smallest(), space.largest())
]
print(f"{space.cardinality():,} architectures of {ends[0]:,} to {ends[1]:,} parameters")

# %% [markdown]
# ## A search
#
# Nothing is trained. `study` is an ordinary Optuna study; the storage keeps it, and running the
# cell again goes on with it.

# %%
study = search(space, n_trials=N_TRIALS, storage=f"sqlite:///{OUT}/studies.db")
print(f"{len(study.trials)} trials")

# %% [markdown]
# ## Its front
#
# The trials that no other beats in both DSS and parameters, from small to large; some ten of them
# are printed. Within a budget, the one with the highest DSS is the best guess.

# %%
front = pareto_front(study)
for found in front[:: len(front) // 10 or 1]:
    print(f"DSS {found.values['dss']:7.3f}, {found.n_params:7,}: {found.architecture.summary()}")
best = max((c for c in front if c.n_params <= BUDGET), key=lambda found: found.values["dss"])
print(f"picked: trial {best.trial}, {best.n_params:,} parameters")

# %% [markdown]
# ## A report of it
#
# One HTML file that needs no server.

# %%
write_report(study, OUT / "report.html", picked=[front[0], best, front[-1]])
print(f"see {OUT}/report.html")

# %% [markdown]
# ## A file of the best, and a timm model of that
#
# The exported YAML has all that timm needs to build the network.

# %%
(exported,) = export_candidates(study, [best], OUT, formats=["yaml"], force=True)
model = timm.create_model("tftas_autoformer", arch=exported)
images = torch.randn(2, *model.pretrained_cfg["input_size"])
print(exported, tuple(model(images).shape), tuple(model.forward_features(images).shape))

# %% [markdown]
# ## Images
#
# They are drawn; their class is the direction of their stripes. There is one folder for each
# class: arrange your own images in the same way.

# %%
random = np.random.default_rng(0)
wave = np.sin(np.arange(32) * 0.8)
for split, n_images in (("train", N_IMAGES), ("val", N_IMAGES // 5)):
    for i in range(n_images):
        name, stripes = ("lying", wave[:, None]) if i % 2 else ("standing", wave[None, :])
        grey = 127 + 40 * stripes + random.normal(0, 40, (32, 32))
        folder = OUT / "images" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB").save(
            folder / f"{i:04}.png"
        )

# %% [markdown]
# ## A training
#
# With timm's training code, for one epoch here. The accuracy is stored in the study too. A
# finished training is not repeated: delete its folder for a new one.

# %%
result = retrain(
    best,
    study=study,
    data_dir=OUT / "images",
    recipe="quick",
    overrides={"epochs": 1, "warmup_epochs": 0, "batch_size": 16},
    out=OUT / "trained",
)
print(f"top-1 {result['top1']:.1f} % after one epoch, in {result['out']}")

# %% [markdown]
# ## The trained model
#
# The directory is a model that timm loads with its weights.

# %%
trained = timm.create_model(f"local-dir:{result['out']}", pretrained=True).eval()
picture = Image.open(next((OUT / "images" / "val" / "lying").iterdir()))
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=trained))
with torch.inference_mode():
    chances = trained(transform(picture)[None]).softmax(dim=-1)[0]
print(dict(zip(("lying", "standing"), chances.tolist(), strict=True)))
