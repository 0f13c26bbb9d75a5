"""Numbers from records, as pure functions: score, grouping, the tables, comparisons, published rows."""
