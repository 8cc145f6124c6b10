"""Who is measured in `benchmarks.engine`, each in a process of its own, asked over standard input."""
