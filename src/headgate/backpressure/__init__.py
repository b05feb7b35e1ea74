"""Are we coping? Pure controllers: samples in, a number or a state out.

Nothing here reads a clock, holds a lock or does input and output. Time is an argument, and whoever owns
the state (a gate, the server, a simulation) hands it in.
"""
