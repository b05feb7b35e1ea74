"""The door for programs: what decides, waits and protects inside one process.

A gate owns a state, a clock and a lock, and is small; the arithmetic is in `headgate.algorithms` and
`headgate.backpressure`.
"""
