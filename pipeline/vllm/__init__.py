"""A vLLM server: what is said to it, how one is started, and what it is sent of a model.

client.py speaks to a server, over HTTP alone; requests.py has what it is asked; child.py starts
one; weights.py writes what it reads. Who samples with it: pipeline/rl/vllm_sampler.py for training,
pipeline/measuring/engine.py for evaluations.
"""
