"""Watch: how far a run is, by its files and by Slurm's queue; its logs and its episodes."""
