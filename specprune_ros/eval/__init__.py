"""Rollouts, statistics, benchmark, demo and reports: everything that measures the policy."""
