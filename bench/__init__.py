"""Benches: each writes one file under bench/results/; bench/README.md says how to read them."""
