"""What the tests share: real servers, and the rule of what to do when one is missing."""
