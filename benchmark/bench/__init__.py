"""Speed and cost, measured."""
