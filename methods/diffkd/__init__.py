"""DiffKD: `diffkd` is the method, `diffusion` the noise schedule and its reversal, `networks` the side networks."""
