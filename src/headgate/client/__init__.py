"""The door for programs elsewhere: how does a program ask a Headgate service from afar?

`Client` speaks REST, one call for one question, and gives back what the library would: a `Decision` for a
check, an error of `headgate.errors` for a failure. It needs the package httpx (the extra ``server`` has it).
"""

from headgate.client.rest import DEFAULT_URL, Client

__all__ = ["DEFAULT_URL", "Client"]
