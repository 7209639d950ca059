"""Train a model that your program has loaded. Here it is nano's weights, read as any model of transformers is."""

from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import azr_lite as az
from azr_lite.errors import ConfigError
from azr_lite.nano.model import WEIGHTS

model = AutoModelForCausalLM.from_pretrained(WEIGHTS)
tokenizer = PreTrainedTokenizerFast.from_pretrained(WEIGHTS)
before = model.get_input_embeddings().weight.clone()

small = {"steps": 1, "batch_size": 4, "solver_batch_size": 8, "n_mc": 2, "seed_batch_factor": 1, "eval_problems": 0}
given = {"model": model, "tokenizer": tokenizer, "prompts": "compact", "device": "cpu"}
result = az.run("nano", output_dir="runs/model-object", self_test=False, **given, **small)

moved = (model.get_input_embeddings().weight - before).abs().max().item()
print(f"trained in place: an embedding moved by {moved:.1e}")
print("recorded as", az.Run(result.path).config.model)
try:
    az.resume(result.path, steps=2)
except ConfigError as error:
    print("resume:", error)
