"""The door for frameworks: one thin module each, imported only by those who use that framework.

What they share is here too: `attributes` says by what a request is limited, `requests` decides about it.
"""
