"""Aligning an emotion-conditioned response generator with DPO, and measuring what that changed."""
