"""What runs inside the sandbox: the harness that calls a foreign evaluator, and stand-ins for the packages it names."""
