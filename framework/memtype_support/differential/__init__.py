"""Random sequences of operations, run in a guest and on the reference models, and compared step by step."""
