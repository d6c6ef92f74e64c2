"""Plans of runs: experiments, their identities, their estimated cost."""
