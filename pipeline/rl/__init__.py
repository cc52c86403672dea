"""Language models trained on rewards: PPO, GRPO, RLOO and their kin, on one loop of our own.

One rollout, from prompt to checkpoint. trainer.py is the loop; these are its parts:

prompt      rows of a data set become token ids                       prompts.py
            which ones a rollout has: by seed and number              sampling_order.py
rollout     groups of responses to each prompt, fresh ones if flat    rollout_sampling.py
            each process samples and scores its share                 collector.py
            by a loop over forward passes, or by `generate`           sampler.py, engines.py
            or by a vLLM server, which is sent the policy             vllm_sampler.py
            or takes those that the rows came with                    given.py
            a response that calls tools is a conversation             conversation.py
            log p of policy and reference, the critic's values        logprobs.py, sequences.py
            how far another engine's are from those                   gaps.py
score       terms weighted, normalised, clipped; missing EOS          rewards.py, pipeline/rewards/
            the rows of all processes, as a watcher is handed them    rollout.py
advantages  by a critic's values, or against other responses          experience.py, advantages.py
losses      which rows a step trains on, and how tokens count         step_rows.py, batch.py
            the method's surrogate, sent back through the head        surrogates.py, losses.py
            divergences from a teacher, sent back beside it           teacher.py
step        gradients summed over processes, clipped apart            gradients.py, optimizer.py
            what the steps of a rollout add up to, and its line       step_totals.py, log_lines.py
checkpoint  policy, critic, and the state between two steps           checkpoint.py, state.py

core/ has the formulas on plain tensors: KL, advantages, losses, how tokens count. What shares
weights with what is a layout: actor.py is the interface, actor_critic.py the one with a critic,
layouts/ has them, build.py puts one together, critic_start.py says what its critic starts from.

A method is a choice (objective.py) of advantage, ratio, surrogate and aggregation. config/ says
what each may be asked, under the names of its own literature; ppo.py, grpo.py and rloo.py are its
trainers. One more method is a config whose `objective` says what it chose; a new formula goes into
core/, and is chosen in advantages.py or surrogates.py.

Beside training: evaluation.py (held-out prompts), watch.py (gold scores, samples), best_of_n.py
(the yardstick), ranking_check.py (does the reward tell responses apart at all), resume_settings.py
(what a checkpoint must have been made with).
"""
