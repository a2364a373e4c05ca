"""The arms and seeds of one experiment spread over processes, on this machine or on others."""
