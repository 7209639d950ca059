"""The nano world: a mini-language of real Python, its generator, tokenizer, model, warm start and held-out problems."""
