"""How far an attempt is kept from its machine and from the other attempts."""
