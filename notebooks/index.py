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
# # Absolute Zero, from nothing to your own run
#
# A language model invents its own tasks, a Python executor checks them, the same model solves them, and learns from both. These eleven notebooks
# build that, piece by piece, and let you watch it learn on a laptop. Everything you write is checked on the spot, by checks that know the usual mistakes;
# every notebook runs from top to bottom with nothing solved, so you can read first and work later.

# %% [markdown]
# <!-- header: made by make notebooks -->
# | | notebook | you will be able to | exercises (points) | 2 CPU cores | needs |
# |---|---|---|---|---|---|
# | 00 | [Absolute Zero in ten minutes](00_ten_minutes.ipynb) | say what *propose*, *solve* and *verify* mean; run one whole self-play step; tell what your machine can run | 4 (4) | 6 s, 158 MiB | numpy, matplotlib |
# | 01 | [Task triplets: one program, three task types](01_triplets.ipynb) | build deduction, abduction and induction from a triplet; judge answers by value; keep a buffer | 6 (12) | 3 s, 130 MiB | numpy, matplotlib |
# | 02 | [The executor: code you do not trust](02_executor.ipynb) | run hostile programs under limits; prove that a program is deterministic; say what the sandbox does not stop | 5 (10) | 9 s, 155 MiB | numpy, matplotlib |
# | 03 | [Rewards: who is a good teacher?](03_rewards.ipynb) | compute learnability; add the format ladder; foresee reward hacks | 5 (10) | 3 s, 149 MiB | numpy, matplotlib |
# | 04 | [TRR++: six baselines instead of one](04_trr.ipynb) | derive TRR++; compare it with REINFORCE++ (one global baseline), GRPO, RLOO and Dr. GRPO on the same rollouts; explain token against sequence whitening | 5 (10) | 6 s, 151 MiB | numpy, matplotlib |
# | 05 | [Absolute Zero in 130 lines](05_build_it.ipynb) | write sampling, log-probabilities, loss, update and the outer loop; train a language model by self-play yourself; show that your loss and gradient are the package's | 6 (13) | 266 s, 833 MiB | torch |
# | 06 | [Watch it learn on your laptop](06_learn.ipynb) | run self-play with the embedded model; read all curves; stop and resume a run; ablate one piece | 3 (5) | 333 s, 227 MiB | torch |
# | 07 | [LoRA self-play on one GPU](07_lora.ipynb) | plan memory; say what the numbers of a real model's run allow; launch, watch, stop and resume a run; publish an adapter | 4 (6) | 24 s, 650 MiB | torch |
# | 08 | [Reading a run](08_reading_a_run.ipynb) | diagnose collapse, hacking and plateaus; compare base and trained models with intervals; find the paper's findings in your own run | 9 (12) | 4 s, 153 MiB | the core package, matplotlib |
# | 09 | [Scaling to 3B–14B full fine-tuning](09_scaling.ipynb) | do the memory arithmetic; choose between LoRA, 8-bit Adam, FSDP, ZeRO and vLLM; go headless on many GPUs | 5 (10) | 5 s, 134 MiB | the core package, matplotlib |
# | 10 | [Make it yours](10_make_it_yours.ipynb) | add a task type in about 60 lines; test it; report it | 5 (9) | 6 s, 115 MiB | numpy, matplotlib |
# <!-- /header -->

# %% [markdown]
# ## Which way through
#
# | you have | do |
# |---|---|
# | ten minutes | [00](00_ten_minutes.ipynb) |
# | an evening | 00, [01](01_triplets.ipynb), [03](03_rewards.ipynb), then watch [06](06_learn.ipynb) run |
# | two evenings | 01 to 04, then build it in [05](05_build_it.ipynb) from what you wrote |
# | a weekend | 00 to 06 with all exercises, then [08](08_reading_a_run.ipynb) |
# | a GPU | the same, then [07](07_lora.ipynb) and [09](09_scaling.ipynb) |
# | an idea of your own | 01 to 03, then [10](10_make_it_yours.ipynb) |
# | a class | [teaching/](teaching/README.md): pacing for three times 90 minutes and for one day, common confusions, questions, marking |
#
# Words are explained in the [glossary](glossary.md). To see what is there to do, and what it is worth:

# %% tags=["setup", "hide-input"]
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """azr_lite numpy matplotlib"""
EXTRA = "notebooks"
# Never by a bare name: an index may hold another package that is called so.
ADDRESS = "https://github.com/azr-lite/azr-lite/archive/refs/heads/main.zip"

def missing():
    importlib.invalidate_caches()
    return [name for name in NEEDS.split() if importlib.util.find_spec(name) is None]

here = pathlib.Path.cwd()
tree = next((p for p in (here, *here.parents) if (p / "azr_lite" / "__init__.py").exists()), None)
if tree and "azr_lite" in missing():
    sys.path.insert(0, str(tree))
if lacking := missing():
    wheel = max(here.glob("azr_lite-*.whl"), default=None)
    source = [f"azr-lite[{EXTRA}] @ {ADDRESS}"]
    if tree and (tree / "pyproject.toml").exists():
        source = ["-e", f"{tree}[{EXTRA}]"]
    elif wheel:
        source = [f"{wheel}[{EXTRA}]"]
    names = ", ".join(lacking)
    print(f"Installing {names} from {source[-1]}. pip may replace versions that do not fit.")
    command = [sys.executable, "-m", "pip", "install", "-q", *source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or missing():
        told = [row for row in done.stderr.splitlines() if row.startswith("ERROR")]
        why = (told or done.stderr.splitlines() or ["they are still missing"])[-1]
        raise SystemExit(f"This notebook needs {names}, which pip could not install ({why[:90]}). "
                         "Go online, or put the package's wheel beside the notebook, and run "
                         "this cell again.")

# %%
from azr_lite.course import check

check.list()
