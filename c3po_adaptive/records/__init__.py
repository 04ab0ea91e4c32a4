"""What studies keep: a record of each answer, declared once, in JSONL and in Parquet."""
