"""Archives that venues publish: a pure part, which says what there is and reads it, and a thin one, which fetches."""
