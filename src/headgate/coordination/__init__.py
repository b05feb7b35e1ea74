"""What do we agree on now? What several processes or nodes share, kept where all of them reach it.

Adapters of the engine's ports; ``wiring`` opens them. A script on the store is one step that nobody gets
in between, and the store's clock is the only one that counts.
"""
