"""The leaderboard: one HTML page that needs no network."""
