"""Code that runs around and inside the sandbox: standard library only, and nothing of the rest of
sia_flow.

The folder is bound into the sandbox as the package `inside`, so its modules import each other relatively.
"""
