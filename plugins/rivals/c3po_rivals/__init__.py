"""Methods of other papers, each a whole plugin in one file of this folder, by an entry point of its own."""
