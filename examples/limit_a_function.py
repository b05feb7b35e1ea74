"""Limit a function by one of its arguments, and tell callers when to come back.

python examples/limit_a_function.py
"""

from __future__ import annotations

from headgate import RateLimited, limit


@limit("3/second", key=lambda user, **_: user)
def send(user: str, text: str) -> str:
    return f"to {user}: {text}"


def main() -> None:
    for text in ("one", "two", "three", "four"):
        try:
            print(send("ada", text))
        except RateLimited as error:
            print(f"refused; again in {error.decision.retry_after:.2f} s")
    print(send("bob", "each user has a limit of their own"))


if __name__ == "__main__":
    main()
