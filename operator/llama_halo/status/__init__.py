"""Pure: (outcome, observed children, previous status) -> status. No I/O; `now` is passed in."""
