"""`diagnose`: everything about a cluster in one file that opens anywhere, without a network and without secrets.

`gather` asks, `facts` is what it brings, `page` draws it.
"""
