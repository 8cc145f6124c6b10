"""L2: one node of the cluster. Every node is equal; none is the master."""
