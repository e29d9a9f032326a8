"""What things are: the nouns of Tidemill and the arithmetic on them. Pure: no I/O, no clock."""
