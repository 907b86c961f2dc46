"""Evaluation: statistics, figures, reports, comparisons, traces, and the leaderboard's file."""
