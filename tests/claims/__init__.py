"""What the README promises to hold whatever happens, each claim tried many times: `make prove`.

One file per claim; it gives the cases, `page.py` prints the counts, `__main__.py` tries them all.
"""
