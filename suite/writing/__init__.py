"""What contracts are written with: assertions, cases, Hypothesis strategies."""
