"""What all benchmarks use: sides taken in turn, processes, the rivals."""
