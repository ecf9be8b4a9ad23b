"""Speed against peers and against the machine's own limit; see README.md in this folder. Never part of the tests."""
