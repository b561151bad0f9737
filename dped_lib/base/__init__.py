"""Hold what every other room uses: paths, presets, datasets, devices, errors and worker processes."""
