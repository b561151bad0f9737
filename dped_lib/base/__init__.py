"""What every room uses: datasets, presets, run parameters, paths, devices, progress, workers and errors."""
