"""The embedded default: a real chat model, dialogues and classifiers that need the package index and nothing else."""
