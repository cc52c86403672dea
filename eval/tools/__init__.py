"""Tools that a model may call: what a call looks like, what answers it, how its turns go on.

calls.py reads calls out of what a model wrote, tool.py runs them within limits, and the tools of
our own are calculator.py, python.py and sql.py. turns.py goes from turn to turn. Tokens and chat
templates are pipeline/tools' subject; nothing here imports torch.
"""
