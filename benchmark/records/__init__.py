"""What a run left behind: the schema of a record, files of records, provenance, predictions."""
