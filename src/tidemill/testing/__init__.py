"""For our tests and for authors of engines: a simulation of the whole ledger, and the suite every engine passes."""
