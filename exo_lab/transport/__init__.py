"""How bytes travel between nodes: frames, keys, sockets. Imports nothing until it is used."""
