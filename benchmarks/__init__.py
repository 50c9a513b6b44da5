"""What recording and verifying cost, as ratios measured in one run."""
