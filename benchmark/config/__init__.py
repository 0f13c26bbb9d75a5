"""What is asked for, as plain values: profiles and recipes, specs of runs, their hashes, names, folders."""
