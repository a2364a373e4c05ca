"""The only door to untrusted code: `open_sandbox` finds the best backend by attacking it, `open` starts a
warm session.
"""

from sia_flow.sandbox.open import open_sandbox

__all__ = ["open_sandbox"]
