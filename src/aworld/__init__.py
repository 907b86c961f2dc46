"""AWorld on Slurm: reinforcement learning of a tool-using LLM agent, and its evaluation, as Slurm jobs."""
