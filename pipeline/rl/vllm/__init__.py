"""Responses sampled by a vLLM server that is sent the policy before every rollout.

sampler.py asks for completions; client.py speaks to the server, over HTTP alone; child.py starts
one; weights.py has what it is sent.
"""
