"""Trajectories: the record of an episode, journals, the HDF5 file, and the MPI gather."""
