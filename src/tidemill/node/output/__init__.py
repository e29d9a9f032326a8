"""What tasks print: cut into lines, gathered into blocks, kept on disk until a server has taken them."""
