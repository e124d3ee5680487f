"""The words of a task's life."""

PENDING, QUEUED, RUNNING = "Pending", "Queued", "Running"
SUCCEEDED, FAILED, CANCELLED = "Succeeded", "Failed", "Cancelled"
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})

FINALIZER = "task/workload"
"""A task's name is free once its workload, with its processes, is gone."""
