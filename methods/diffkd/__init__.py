"""DiffKD: `diffkd` the method, `diffusion` the noise schedule and its reversal, `networks` and `unet` side networks."""
