"""Between the APIs, by way of Chat Completions: each other one has a module for its clients or its
servers; pure but for the iteration."""
