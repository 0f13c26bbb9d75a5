"""What networks and their building blocks cost: exact counts next to measured time and memory."""
