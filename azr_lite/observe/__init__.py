"""Looking at a run: `run.Run` is the way in. No training code imports this package."""
