"""What evaluate.py does with replies: verdicts, figures with intervals, claims, reports."""
