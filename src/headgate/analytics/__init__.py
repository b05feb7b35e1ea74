"""What happened, and what comes next?

Observers of decisions. They see every decision that concerns them, keep a bounded amount of it, and can
neither slow nor break the request that they are told of.
"""
