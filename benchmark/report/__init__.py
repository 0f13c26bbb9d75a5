"""What a person sees: the screen, text tables, LaTeX, figures, the leaderboard page."""
