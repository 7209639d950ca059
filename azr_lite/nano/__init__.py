"""The embedded nano world: a mini-language of real Python, its generator, tokenizer, model, warm start and held-out problems.

Comes in: nothing but a seed.  Goes out: a small world in which self-play can be seen to teach within minutes on a CPU.
Not covered: the games, rewards and updates, which are the same as for any other model.
"""
