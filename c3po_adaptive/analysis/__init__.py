"""From records to statistics and summaries."""
