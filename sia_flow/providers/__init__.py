"""Language models by one protocol, and the money that they cost: nothing is asked before it is reserved."""
