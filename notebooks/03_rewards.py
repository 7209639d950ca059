# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# <!-- header: made by make notebooks -->
# # 03 · Rewards: who is a good teacher?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/03_rewards.ipynb)
#
# **You will be able to**
#
# * compute learnability;
# * add the format ladder;
# * foresee reward hacks.
#
# **Before this:** notebook 01.
#
# **Budget:** 1 minute to read (13 words); 2 exercises, 3 points; 3 seconds and 102 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.1.0, numpy 2.4.6, 2026-11-21.
#
# **Next:** [04 · TRR++: six baselines instead of one](04_trr.ipynb). Words in this course: [glossary](glossary.md).
# <!-- /header -->

# %% tags=["setup"]
# Once on Colab or Kaggle; does nothing where azr_lite is there.
import importlib.util, pathlib, subprocess, sys
if importlib.util.find_spec("azr_lite") is None:
    trees = [p for p in (pathlib.Path.cwd(), *pathlib.Path.cwd().parents) if (p / "azr_lite" / "__init__.py").exists()]
    if trees:
        sys.path.insert(0, str(trees[0]))
    else:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "azr-lite[notebooks]"], check=True)

# %% tags=["parameters"]
PROFILE = "auto"  # ci, cpu or gpu; auto looks at this machine
SEED = 0
STEPS = None  # None: as many as the profile has

# %% tags=["setup"]
from azr_lite import rewards
from azr_lite.learn import check, profile, widgets

profile = profile(PROFILE)

# %% [markdown]
# ## Who is a good teacher?
# A task that is never solved teaches nothing.

# %% tags=["exercise"]
def learnability(rate):
    """What a valid task earns that was solved with this mean success."""
    return ...

check.learnability(learnability)

# %%
learnability = check.use(learnability, fallback=rewards.learnability)

# %%
def draw(axis, rate):
    axis.bar([0], [learnability(rate)])
    axis.set_ylim(0, 1)
    axis.set_title(f"r̄ = {rate}")

widgets.explore(draw, "Reward falls as tasks get easier", static=[{"rate": 0.125}, {"rate": 0.5}], rate=[0.0, 0.125, 0.5, 1.0])
