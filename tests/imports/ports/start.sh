#!/bin/bash
MODELS=(
    "llama-3.2-3b:8081:background"
    "hermes-4-14b:8082:default"
    "hermes-4-70b:8083:reasoning"
)
