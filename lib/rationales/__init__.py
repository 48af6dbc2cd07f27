"""Whether relevant words are those that people marked: scores, references beside them, tables, a figure."""
