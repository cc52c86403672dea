"""vLLM as TRL 1.16 reaches it: on a server or in this process, and how weights get there.

Not a sampler: pipeline/rl/engines.py asks it for completions. vLLM was not run here. What is sent
to it follows TRL's client and engine, whose signatures a test checks; never seen at work are the
weights' way to it and what comes back. `rollout/logp_gap` in the metrics shows whether completions
follow the policy.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from accelerate.utils import is_peft_model

from pipeline.errors import PosttrainError
from pipeline.models.frozen import FrozenConv1D, FrozenLinear, plain_copy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from torch import Tensor, nn
    from transformers import PreTrainedModel

_MOST_REQUESTS = 64  # at a time, as many as TRL's client keeps connections

# What may be passed on: to TRL's VLLMGeneration, which starts an engine, or to its VLLMClient.
OPTIONS: Mapping[str, frozenset[str]] = {
    "colocate": frozenset(
        {"gpu_memory_utilization", "max_model_length", "max_num_seqs", "model_impl"}
    ),
    "server": frozenset({"base_url", "host", "server_port", "group_port", "connection_timeout"}),
}

Written = tuple[list[int], list[float] | None]  # token ids, a log-probability each


class Engine(Protocol):
    """vLLM, here or elsewhere."""

    def load(self, module: nn.Module) -> None:
        """Take over the module's weights."""
        ...

    def complete(self, prompts: list[list[int]], settings: list[dict[str, Any]]) -> list[Written]:
        """Write one completion for each prompt, with settings of its own."""
        ...


class ServerEngine:
    """vLLM on a server, by TRL's client: one request a row, as each has its own seed.

    The main process asks for all processes; in the others client is None.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    @classmethod
    def connect(cls, module: PreTrainedModel, options: dict[str, Any]) -> ServerEngine:
        """Connect, and open the channel for weights."""
        from accelerate import PartialState
        from trl.generation.vllm_client import VLLMClient

        if not PartialState().is_main_process:
            return cls(None)
        client = VLLMClient(**options)
        client.init_communicator(device=module.device)
        return cls(client)

    def load(self, module: nn.Module) -> None:
        """Announce all tensors, then send them one at a time."""
        if self.client is None:
            return
        metadata = [
            (name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
            for name, tensor in merge_parameters(module)
        ]
        self.client.update_named_params(metadata, merge_parameters(module))
        self.client.reset_prefix_cache()

    def complete(self, prompts: list[list[int]], settings: list[dict[str, Any]]) -> list[Written]:
        """Write one completion for each prompt."""
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list, gather_object

        state = PartialState()
        own = list(zip(prompts, settings, strict=True))
        counts = gather_object([len(own)])
        everything = gather_object(own)
        answer: list[list[Written] | None] = [None]
        if self.client is not None:
            with ThreadPoolExecutor(_MOST_REQUESTS) as requests:
                answer = [list(requests.map(self._complete_row, everything))]
        broadcast_object_list(answer, from_process=0)
        assert answer[0] is not None
        begin = sum(counts[: state.process_index])
        return answer[0][begin : begin + len(own)]

    def _complete_row(self, row: tuple[list[int], dict[str, Any]]) -> Written:
        prompt, settings = row
        own = {"seed", "stop_token_ids", "ignore_eos", "logit_bias"}
        answer = self.client.generate(
            [prompt],
            n=1,
            **{name: value for name, value in settings.items() if name not in own},
            generation_kwargs={name: value for name, value in settings.items() if name in own},
        )
        logprobs = None if answer["logprobs"] is None else answer["logprobs"][0]
        return answer["completion_ids"][0], _sampled_logprobs(logprobs)


class ColocatedEngine:
    """vLLM in this process, by TRL's VLLMGeneration: an engine for each process, no sleep mode."""

    def __init__(self, generation: Any) -> None:
        self.generation = generation

    @classmethod
    def start(cls, module: PreTrainedModel, options: dict[str, Any]) -> ColocatedEngine:
        """Start an engine on the model that the module was loaded from."""
        from accelerate import Accelerator
        from trl.generation.vllm_generation import VLLMGeneration

        class Generation(VLLMGeneration):
            def _iter_named_params(self) -> Generator[tuple[str, Tensor], None, None]:
                # TRL's merges the adapter in place and takes it out again at each call: in bf16
                # the base weights drift (by 0.024 in 50 calls, their mean size being 0.016).
                yield from merge_parameters(self.model)

        causal: Any = causal_of(module)  # its name is the base model's
        tokenizer: Any = None  # TRL asks it for images only
        return cls(Generation(causal, Accelerator(), tokenizer, mode="colocate", **options))

    def load(self, module: nn.Module) -> None:
        """Copy the weights to the engine."""
        self.generation.model = module
        self.generation.sync_weights()

    def complete(self, prompts: list[list[int]], settings: list[dict[str, Any]]) -> list[Written]:
        """Write one completion for each prompt."""
        from trl.generation.vllm_generation import extract_logprobs
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        # Not VLLMGeneration.generate, which has one seed for all rows: they would draw alike.
        outputs = self.generation.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            sampling_params=[SamplingParams(n=1, **row_settings) for row_settings in settings],
            use_tqdm=False,
        )
        candidates, _ = extract_logprobs(outputs)
        logprobs = [None] * len(prompts) if candidates is None else candidates
        tokens = [list(output.outputs[0].token_ids) for output in outputs]
        return [
            (row, _sampled_logprobs(of_row)) for row, of_row in zip(tokens, logprobs, strict=True)
        ]


def require_vllm() -> None:
    """Raise PosttrainError where vLLM is not installed."""
    if find_spec("vllm") is None:
        hint = "pip install 'posttrain[vllm]', or write `rollout_engine: own`"
        raise PosttrainError("rollout_engine", "vLLM is not installed", hint)


def check_options(mode: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for options that do not reach vLLM, or that would change what is sampled."""
    for name in options:
        if name in ("tensor_parallel_size", "enable_sleep_mode"):
            raise ValueError(
                f"`{name}` of `vllm_options`: vLLM in this process runs on one device and does not "
                "sleep; start a server and write `vllm_mode: server`"
            )
        if name not in OPTIONS[mode]:
            known = ", ".join(sorted(OPTIONS[mode]))
            raise ValueError(
                f"`vllm_options` has no `{name}` with `vllm_mode` {mode}; it takes {known}"
            )


def merge_parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name as in the base model, tensor), adapters merged into a copy of each layer.

    One layer is copied at a time; the module stays as it is. Adapters that are switched off are
    left out. A tied weight comes once, which is how vLLM takes it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers: tuple[str, ...] = ()  # with an adapter, whose own parts come with them
    seen: set[int] = set()
    for name, part in causal_of(module).named_modules():
        prefix = f"{name}." if name else ""
        if prefix.startswith(layers):
            continue
        is_whole = isinstance(part, AuxiliaryTrainingWrapper)
        if is_whole:
            raise ValueError(f"the adapter trains `{name}` as a whole, which cannot be sent")
        if isinstance(part, BaseTunerLayer):
            layers = (*layers, prefix)
            for leaf, parameter in _merge_layer(part).named_parameters():
                yield prefix + leaf, parameter.data
            continue
        plain = plain_copy(part) if isinstance(part, FrozenLinear | FrozenConv1D) else part
        for leaf, parameter in plain.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield prefix + leaf, parameter.data


def _merge_layer(layer: Any) -> nn.Module:
    """Return a layer of a model without adapters that does what this one with adapters does."""
    base = layer.get_base_layer()
    is_kept = isinstance(base, FrozenLinear | FrozenConv1D)
    if layer.disable_adapters:
        return plain_copy(base) if is_kept else base
    merged = copy.deepcopy(layer)
    if is_kept:  # in fp32, since adding to few bits would round
        merged.base_layer = plain_copy(base)
    merged.merge()
    return merged.get_base_layer()


def causal_of(module: nn.Module) -> Any:
    """Return the language model inside of a PEFT model, adapters in its layers; else itself."""
    model: Any = module
    return model.get_base_model() if is_peft_model(module) else model


def _sampled_logprobs(logprobs: list[list[float | None]] | None) -> list[float] | None:
    """Return one log-probability a token; None if the engine gave none or NaN."""
    if logprobs is None:
        return None
    first = [of_token[0] for of_token in logprobs]
    return [value for value in first if value is not None] if None not in first else None
