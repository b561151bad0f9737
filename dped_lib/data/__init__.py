"""Data: the simulated rig, readers of every dataset, the pair store, image files, checkpoints and downloads."""
