"""Files as sources: what a CSV, JSON or Parquet file of other origin means, and its rows on their way into the lake."""
