"""What an attempt may use of its machine, counted and enforced by the kernel: one cgroup for each attempt.

``groups`` is what an attempt gets, ``cgroup1`` and ``cgroup2`` are the two file protocols, ``places`` finds where this
process is, ``probe`` finds out what works here by doing it, ``keeper`` ties groups to the node's loop.
"""
