"""Speed and memory, as ratios of things measured in turns on one machine: `make bench`.

    python -m tests.benchmarks [--quick] [--only NAME] [--repetitions N] [--out build/bench.json]

What is compared runs in the same process, in rounds of one run each, in an order that rotates; a ratio is
taken within a round, and the median over the rounds is what counts. Nothing here fails because of a time.
"""
