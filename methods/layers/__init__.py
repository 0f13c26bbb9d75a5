"""The computing parts of methods (these import torch; the entries in methods/ do not)."""
