"""Worlds in which everything goes wrong, made from a seed: the real store and scheduler on a clock that is moved.

``points`` says where a server may die, ``server`` is one life of one, ``world`` holds what outlives it, ``users`` are
its users, ``faults`` what befalls it; ``run`` plays one seed, and ``audit`` looks whether a promise was broken.
"""
