"""Speed, measured: ours and another way take turns in one process, round by round."""
