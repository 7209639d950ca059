"""vLLM through TRL: room for all our calls, and adapters that are handed over as they are."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate.utils import is_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from trl.generation import vllm_generation
from trl.trainer import grpo_trainer


@contextmanager
def vllm_as_we_want_it() -> Iterator[None]:
    """Inside, TRL starts vLLM with room for at least 256 sequences, vLLM's own default, and adapters beside the base.

    TRL has no argument for either: it gives as many as a process trains on, and Monte-Carlo solves are far more; and it
    merges adapters into the base and subtracts them again, which in bfloat16 is no round trip (trl#6688, #3466).
    """
    made_by_trl = grpo_trainer.VLLMGeneration

    def ours(model: Any, max_num_seqs: int, **options: Any) -> Any:
        kind = WithAdapters if is_peft_model(model) else made_by_trl
        return kind(model=model, max_num_seqs=max(256, max_num_seqs), **options)

    grpo_trainer.VLLMGeneration = ours
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = made_by_trl


class WithAdapters(vllm_generation.VLLMGeneration):
    """TRL's vLLM beside the trainer. Its base stays, and a sync hands over nothing but the adapters, one file each.

    It samples with the adapter that is active in the trainer. A 4-bit base is given once, in 16 bits, as the trainer
    reads it: vLLM's own 4-bit form would be another policy. Asleep, the base waits in the memory of the CPU.
    """

    def _init_vllm(self) -> None:
        start = vars(vllm_generation)["LLM"]  # there only where vLLM is installed
        self.handed, self.numbers = {}, itertools.count(1)
        rank = max(settings.r for settings in self.model.peft_config.values())

        def start_with_adapters(**options: Any) -> Any:
            own = {"enable_lora": True, "max_loras": 2, "max_lora_rank": max(8, 1 << (rank - 1).bit_length())}
            llm = start(**{**options, **own, "quantization": None})
            self._give_four_bit_base(llm.llm_engine.model_executor.driver_worker.model_runner.model)
            generate, sleep = llm.generate, llm.sleep
            acting = lambda: self.handed[self.model.active_adapter]  # noqa: E731
            llm.generate = lambda *args, **how: generate(*args, lora_request=acting(), **how)
            llm.sleep = lambda level: sleep(level=1)  # TRL's level 2 forgets the base
            return llm

        vllm_generation.LLM = start_with_adapters
        try:
            super()._init_vllm()
        finally:
            vllm_generation.LLM = start

    def _give_four_bit_base(self, model: Any) -> None:
        for name, module in self.model.base_model.model.named_modules():
            weight = None if isinstance(module, BaseTunerLayer) else getattr(module, "weight", None)
            if getattr(weight, "quant_state", None) is not None:
                from bitsandbytes.functional import dequantize_4bit
                from vllm.lora.layers import BaseLayerWithLoRA

                # vLLM's wrappers of layers with adapters take the plain name since 0.32
                inside = "" if hasattr(BaseLayerWithLoRA, "load_weights") else ".base_layer"
                place = f"{name.removesuffix('.base_layer')}{inside}.weight"
                model.load_weights([(place, dequantize_4bit(weight.data, weight.quant_state))])

    def _iter_named_params(self) -> Iterator[Any]:
        """TRL's sync asks for the weights to hand over: none."""
        from vllm.lora.request import LoRARequest

        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder, save_embedding_layers=False)
            for name in self.model.peft_config:
                path = folder if name == "default" else os.path.join(folder, name)
                self.handed[name] = LoRARequest(name, next(self.numbers), path)  # a number that vLLM knows is not read
                self.llm.llm_engine.add_lora(self.handed[name])
        return iter(())
