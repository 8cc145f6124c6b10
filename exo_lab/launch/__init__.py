"""Starting kernels that become nodes: on this machine, over SSH, on Slurm. ipyparallel does the starting."""
