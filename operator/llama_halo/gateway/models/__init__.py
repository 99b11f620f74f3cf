"""What the gateway knows of models, and tells the operator of them."""
