"""Carry it out: which limits does this request meet, and do they all admit it?

An `headgate.engine.engine.Engine` is given policies and answers checks. The plan finds the levels that
apply; the keyed table, bounded in memory, has the state of each key; the algorithms decide; and what
several limits answer is one decision, in which all admit or nothing is spent. Cost can be set aside and
settled later. What the engine needs of the outside world stands as types in `headgate.engine.ports`.
"""
