"""A ring simulated, event by event: what a plan does over time, predicted. Pure; see `run.simulate`."""
