"""What is to run: experiments, their identity, what they cost."""
