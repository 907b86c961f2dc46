"""Launch: the plan of a run, its submission to Slurm or start on this machine, and resume."""
