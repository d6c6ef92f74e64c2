"""KDiffusion: `kdiffusion` the method, `process` its arithmetic, `branches` added to a student, `structure` where."""
