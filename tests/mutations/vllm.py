"""Mutations of rollouts and answers that a vLLM server writes."""

from tests.mutations.mutation import Mutation

_ROLLOUTS = "tests/unit/rl/test_vllm_rollouts.py"
_ANSWERS = "tests/unit/measuring/test_vllm_answers.py"

VLLM = [
    Mutation(
        "vLLM is sent the adapter after every update",
        "pipeline/rl/vllm_sampler.py",
        "if self._sent is not None and self._sent[0] == digest:",
        "if self._sent is not None:",
        (f"{_ROLLOUTS}::test_a_server_samples_from_the_adapter_as_it_is_now",),
    ),
    Mutation(
        "an adapter's scale goes with it",
        "pipeline/vllm/weights.py",
        "up.detach() * layer.scaling[active]",
        "up.detach()",
        (f"{_ROLLOUTS}::test_what_is_sent_of_an_adapter_has_its_scale_inside",),
    ),
    Mutation(
        "rows of one prompt draw apart",
        "pipeline/vllm/requests.py",
        "entropy = (seed, key, begun) if begun else (seed, key)",
        "entropy = (seed, begun)",
        (f"{_ROLLOUTS}::test_rows_with_one_prompt_draw_apart_and_alike_for_one_key",),
    ),
    Mutation(
        "an fp32 policy is not served in bf16",
        "pipeline/vllm/child.py",
        '"port": port, "dtype": dtype}',
        '"port": port, "dtype": "auto"}',
        (f"{_ROLLOUTS}::test_a_server_is_started_on_the_network_and_ended",),
    ),
    Mutation(
        "a server that tells raw log-probabilities is refused",
        "pipeline/vllm/client.py",
        "if said.token_ids != [forced] or said.logprobs[0] < -_NEAR_0:",
        "if said.token_ids != [forced]:",
        (f"{_ROLLOUTS}::test_a_server_that_cannot_be_trained_with_is_refused",),
    ),
    Mutation(
        "a gap of log-probabilities above its bound is said",
        "pipeline/rl/gaps.py",
        "if largest > self.bound and not self._has_warned:",
        "if False:",
        ("tests/stages/test_vllm_rollout_stages.py",),
    ),
    Mutation(
        "what vLLM sampled is weighed in PPO, too",
        "pipeline/rl/config/ppo.py",
        "correction=self.correction,",
        "correction=None,",
        (f"{_ROLLOUTS}::test_what_vllm_sampled_is_weighed",),
    ),
    Mutation(
        "an answer that vLLM ended early is asked for again",
        "eval/asking/sampler.py",
        'if one.ended == "length" and len(one.token_ids) < room',
        "if False",
        (f"{_ANSWERS}::test_an_answer_that_ends_early_without_an_end_is_asked_for_again",),
    ),
]
