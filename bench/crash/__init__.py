"""The crash campaign: a workload is killed at every failpoint, started again, and judged. See run.py."""
