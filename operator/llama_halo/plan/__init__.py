"""Pure decisions: (spec, facts) -> the objects that should exist. No I/O, clock or randomness."""
