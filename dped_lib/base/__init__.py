"""Hold what all other packages use: paths, presets, datasets, devices, errors and worker processes."""
