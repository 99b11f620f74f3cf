"""`make test` and `make quick`: which tests run, beside which, and what came of them."""
