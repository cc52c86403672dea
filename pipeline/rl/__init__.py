"""Language models trained on rewards: PPO with a learned critic, on a loop of our own.

One rollout, from prompt to checkpoint. trainer.py is the loop; these are its parts:

prompt      rows of a data set become token ids                       prompts.py
            which ones a rollout has: a function of seed and number   sampling_order.py
rollout     each process samples completions for its prompts          collector.py, sampling.py
            by a loop over forward passes, `generate` or vLLM         sampler.py, engines.py
            log p of policy and reference, the critic's values        logprobs.py, sequences.py
score       terms weighted, normalised, clipped; missing EOS          rewards.py, pipeline/rewards/
            the rows of all processes, as a watcher is handed them    rollout.py
advantages  KL penalty on each token, GAE, returns, whitening         experience.py
losses      which rows a step trains on, and how tokens count         step_rows.py
            clipped losses, sent back through the head in chunks      losses.py, logprobs.py
step        gradients summed over processes, clipped apart            gradients.py, optimizer.py
            what the steps of a rollout add up to, and its line       step_totals.py, log_lines.py
checkpoint  policy, critic, and the state between two steps           checkpoint.py, state.py

core/ has the formulas on plain tensors: KL, token rewards, advantages, losses, how tokens count.
What shares weights with what is a layout: actor_critic.py is the interface, layouts/ has three of
them, build.py puts one together, critic_start.py says what its critic starts from. config.py:
settings.

Beside training: evaluation.py (held-out prompts), watch.py (gold scores, samples), best_of_n.py
(the yardstick), ranking_check.py (does the reward tell responses apart at all), resume_settings.py
(what a checkpoint must have been made with).

A method beside PPO estimates its advantages in experience.py and chooses its loss in losses.py; it
shares all the rest.
"""
