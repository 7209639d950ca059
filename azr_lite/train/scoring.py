"""Who scores replies; prompts packed: a micro-batch as one sequence, the tree in which every beginning is read once.

    rows      prompt A · reply 1,  prompt A · reply 2        (B = 2, each padded to T)
    tree      prompt A · reply 1 · reply 2                   (L tokens; reply 2 goes on from the end of prompt A)

A token sees itself and what it goes on from, and its position is its place in its own row, so every number is that of
the row alone, but for rounding. A model that reads n replies to a prompt of P tokens so reads P + n R tokens, not
n (P + R). Attention is computed over L x L, so large micro-batches become several trees.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from azr_lite.advantages import by_prompt
from azr_lite.errors import ConfigError
from azr_lite.train.generation import Halving
from azr_lite.triplet import Role, Rollout

if TYPE_CHECKING:
    from azr_lite.train.trainer import SelfPlayTrainer

TREE_TOKENS = (4096, 512)  # the most tokens of one tree, on a GPU and on a CPU: attention is computed over their square
SLOTS_AT_ONCE = 32  # distributions over the vocabulary that are in float32 at once


class Scorer:
    """Log-probabilities of replies, each at the temperature of its row's role, one micro-batch at a time.

    A micro-batch is packed, or trimmed to its longest row and given to `of_trl`, TRL's method, which
    knows one temperature. `proposes_B`: which rows of the micro-batch to come are proposals; None: none.
    """

    def __init__(self, trainer: SelfPlayTrainer, of_trl: Callable[..., Any]) -> None:
        """A note where prompts cannot be packed; ConfigError where a setting would then have no effect."""
        self.trainer, self.config, self.of_trl = trainer, trainer.config, of_trl
        self.halving = Halving(trainer.note)
        self.proposes_B: Tensor | None = None
        self._found: tuple[Tensor, Tensor | None] | None = None
        self.packs = self.config.pack_prompts
        if not self.packs:
            return
        if reason := "its weights are spread over processes" if trainer.is_sharded else why_not(trainer.model):
            told = f"this model cannot read packed prompts ({reason})"
            if self.config.proposer_temperature:
                raise ConfigError(f"proposer_temperature needs pack_prompts, and {told}; use proposer_temperature=0")
            trainer.note(f"the update reads a prompt once per reply: {told}")
            self.packs = False

    def replies(
        self, model: Any, ids_BT: Tensor, mask_BT: Tensor, width: int, size: int | None, loss: bool, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What TRL's method returns: log-probabilities and, for the `loss`, entropies, both (B, `width`), and one more.

        Where they are not for the loss they are the old ones of the trainer's `rollouts`: those of two roles go through
        their adapters, those kept from sampling are given as they are, and those that the loss makes itself stay zero.
        """
        trainer, B = self.trainer, len(ids_BT)
        of_old = [] if loss else trainer.rollouts
        if of_old and self.keeps_sampled():
            logps = [torch.tensor(row.logps) for row in of_old]
            return pad_sequence(logps, batch_first=True).to(trainer.accelerator.device), None, None
        own = self.scores_itself(B) if of_old else 0
        parts: list[Any] = [(mask_BT.new_zeros((own, width), dtype=torch.float32), None, None)] if own else []

        def score(rows: range) -> range:
            if of_old:
                trainer.act_as(of_old[rows[0]].role)
                self.proposes_B = torch.tensor([of_old[row].role == Role.PROPOSE for row in rows])
            here = slice(rows.start, rows.stop)
            parts.append(self._micro_batch(model, ids_BT[here], mask_BT[here], width, loss, **kwargs))
            return rows

        for start in range(own, B, size or B):
            rows = range(start, min(start + (size or B), B))
            if torch.is_grad_enabled():
                score(rows)  # `training_step` recovers
            else:
                self.halving(score, rows)
        logps, entropies, aux = zip(*parts, strict=True)
        self._found = torch.cat(logps), torch.cat(entropies) if loss else None
        return *self._found, aux[0] if aux[0] is None else torch.stack(aux).mean()

    def taken(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies as the loss got them; they are forgotten here, and with them the roles."""
        found, self._found, self.proposes_B = self._found, None, None
        return found

    @torch.no_grad()
    def base(self, inputs: dict[str, Any]) -> Tensor:
        """Log-probabilities under the model with its adapter off, the untrained policy. Afterwards, act as a role."""
        ids_BT = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask_BT = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        with self.trainer.accelerator.unwrap_model(self.trainer.model).disable_adapter():
            width = inputs["completion_ids"].shape[1]
            return self._micro_batch(self.trainer.model, ids_BT, mask_BT, width, False)[0]

    def keeps_sampled(self) -> bool:
        """Log-probabilities kept from sampling save a forward pass, where sampling and scoring compute alike."""
        args, rollouts = self.trainer.args, self.trainer.rollouts
        return not (self.trainer.use_vllm or args.bf16 or args.fp16 or any(r.logps is None for r in rollouts))

    def scores_itself(self, rows: int) -> int:
        """Of so many rows of a step those of the first update, if its loss makes the old log-probabilities itself."""
        kept = self.trainer.use_vllm or self.keeps_sampled()
        return 0 if kept else rows // self.config.updates_per_step

    def _micro_batch(
        self, model: Any, ids_BT: Tensor, mask_BT: Tensor, width: int, entropy: bool, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Padding is trimmed: TRL scores the last columns, so rows are padded anew, on the left alone, and what comes
        back is padded on the right.
        """
        if self.packs:
            solver, proposer = self.config.temperature, self.config.proposer_temperature or self.config.temperature
            proposes_B = [False] * len(ids_BT) if self.proposes_B is None else self.proposes_B.tolist()
            temperatures_B = [float(proposer if proposes else solver) for proposes in proposes_B]
            with self.trainer.accelerator.autocast():
                return *score_packed(model, ids_BT, mask_BT, width, temperatures_B, entropy), None
        lengths_B = mask_BT[:, -width:].sum(dim=1).tolist()  # tokens of each reply
        texts = [row_T[kept_T] for row_T, kept_T in zip(ids_BT, mask_BT.bool(), strict=True)]
        left = {"batch_first": True, "padding_side": "left"}
        ids_BT, mask_BT = pad_sequence(texts, **left), pad_sequence([torch.ones_like(text) for text in texts], **left)
        logps, entropies, aux = self.of_trl(model, ids_BT, mask_BT, max(lengths_B), compute_entropy=entropy, **kwargs)

        def to_the_left(values_BK: Tensor) -> Tensor:
            rows = [row[len(row) - length :] for row, length in zip(values_BK, lengths_B, strict=True)]
            return F.pad(pad_sequence(rows, batch_first=True), (0, width - max(lengths_B)))

        return to_the_left(logps), to_the_left(entropies) if entropy else None, aux


class Tree(NamedTuple):
    """The distinct beginnings of some rows: a node for each, numbered so that a parent comes before its children.

    `tokens`: the last token of each. `parents`: the node one token shorter; -1 for the first of a row. `paths`: the
    nodes of each row, from its first token to its last.
    """

    tokens: list[int]
    parents: list[int]
    paths: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Tree:
        """Examples:
        >>> Tree.of([[7, 8, 1], [7, 8, 2], [7, 8, 1]])
        Tree(tokens=[7, 8, 1, 2], parents=[-1, 0, 1, 1], paths=[[0, 1, 2], [0, 1, 3], [0, 1, 2]])
        """
        nodes: dict[tuple[int, int], int] = {}
        paths: list[list[int]] = []
        for row in rows:
            paths.append(path := [])
            for token in row:
                path.append(nodes.setdefault((path[-1] if len(path) else -1, token), len(nodes)))
        return cls([token for _, token in nodes], [parent for parent, _ in nodes], paths)

    def sight(self) -> np.ndarray:
        """sees_LL: whether node i sees node j, which is i itself or one that it goes on from."""
        sees_LL = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees_LL[node] |= sees_LL[parent]
        return sees_LL


def score_packed(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, reply_width: int, temperatures_B: Sequence[float], entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each reply token, at its row's temperature, and the entropy where it was drawn; (B, K), K =
    `reply_width`. Float32, zero in padding.

    `ids_BT`: prompts padded on the left, then K columns of replies padded on the right; `mask_BT`: 1 for tokens.
    Neighbouring rows share a tree up to `TREE_TOKENS`. Logits are computed only where a reply token is predicted.
    """
    device, parts = ids_BT.device, []
    rows = [row[kept].tolist() for row, kept in zip(ids_BT, mask_BT.bool(), strict=True)]
    for part in _trees(rows, TREE_TOKENS[device.type == "cpu"]):
        tree = Tree.of(rows[part])
        tokens_BK, reply_BK = ids_BT[part, -reply_width:], mask_BT[part, -reply_width:].bool()
        slots: dict[tuple[int, float], int] = {}  # of the distribution after a node, at a temperature
        of_BK = torch.zeros(reply_BK.shape, dtype=torch.long)
        lengths_B = reply_BK.sum(dim=1).tolist()
        for b, (path, length, temperature) in enumerate(zip(tree.paths, lengths_B, temperatures_B[part], strict=True)):
            for k, node in enumerate(path[len(path) - length - 1 : -1]):
                of_BK[b, k] = slots.setdefault((node, temperature), len(slots))
        sees_LL, (nodes_S, temperatures_S) = tree.sight(), zip(*slots, strict=True)
        given = (tree.tokens, sees_LL.sum(axis=1) - 1, sees_LL, nodes_S, temperatures_S, of_BK)
        tokens_L, positions_L, sees_LL, nodes_S, temperatures_S, of_BK = (
            torch.as_tensor(x, device=device) for x in given
        )
        logits_SV = model(
            input_ids=tokens_L[None],
            position_ids=positions_L[None],
            attention_mask=sees_LL[None, None],
            logits_to_keep=nodes_S,
            use_cache=False,
        ).logits[0]
        logps_BK, entropies_S = TokenLogps.apply(logits_SV, temperatures_S, of_BK, tokens_BK, entropy)
        parts.append([x_BK.masked_fill(~reply_BK, 0.0) for x_BK in (logps_BK, entropies_S[of_BK])])
    logps, entropies = zip(*parts, strict=True)
    return torch.cat(logps), torch.cat(entropies) if entropy else None


def _trees(rows: Sequence[Sequence[int]], most: int) -> list[slice]:
    """Cuts the rows where a tree would get more than `most` tokens; what neighbours begin with counts once."""
    cuts, tokens, before = [0], 0, []
    for number, row in enumerate(rows):
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(before, row, strict=False))
        tokens += len(row) - len(list(alike))
        if tokens > most and number > cuts[-1]:
            cuts.append(number)
            tokens = len(row)
        before = row
    return [slice(start, end) for start, end in pairwise([*cuts, len(rows)])]


class TokenLogps(torch.autograd.Function):
    """log softmax(logits / temperature), taken at some tokens, and the entropies; no copy of the logits in float32.

    `of_BK` names the slot, whose distribution p is a row of (S, V), that a reply token is taken from, `tokens_BK` the
    token. The entropies H, (S,), are zero where not asked for. The gradient in a slot, of g at its tokens and h at H:
    (sum g (onehot - p) - h p (log p + H)) / temperature.
    """

    @staticmethod
    def forward(ctx, logits_SV, temperatures_S, of_BK, tokens_BK, entropy):
        norms_S, entropies_S = temperatures_S.new_empty(len(logits_SV)), temperatures_S.new_zeros(len(logits_SV))
        for rows in torch.arange(len(logits_SV), device=logits_SV.device).split(SLOTS_AT_ONCE):
            x_SV = logits_SV[rows].float() / temperatures_S[rows, None]
            norms_S[rows] = x_SV.logsumexp(dim=-1)
            if entropy:
                x_SV -= norms_S[rows, None]
                entropies_S[rows] = -(x_SV.exp() * x_SV).sum(dim=-1)
        ctx.save_for_backward(logits_SV, temperatures_S, norms_S, entropies_S, of_BK, tokens_BK)
        ctx.set_materialize_grads(False)  # the entropies have none without a bonus
        return logits_SV[of_BK, tokens_BK].float() / temperatures_S[of_BK] - norms_S[of_BK], entropies_S

    @staticmethod
    def backward(ctx, grads_BK, grads_S):
        logits_SV, temperatures_S, norms_S, entropies_S, of_BK, tokens_BK = ctx.saved_tensors
        scaled_BK = grads_BK / temperatures_S[of_BK]
        sums_S = torch.zeros_like(norms_S).index_add_(0, of_BK.flatten(), scaled_BK.flatten())
        grads_SV = torch.empty_like(logits_SV)
        for rows in torch.arange(len(logits_SV), device=logits_SV.device).split(SLOTS_AT_ONCE):
            x_SV = (logits_SV[rows].float() / temperatures_S[rows, None]).sub_(norms_S[rows, None])
            pull_SV = sums_S[rows, None]
            if grads_S is not None:
                pull_SV = pull_SV + (grads_S / temperatures_S)[rows, None] * (x_SV + entropies_S[rows, None])
            grads_SV[rows] = (x_SV.exp_() * -pull_SV).to(grads_SV.dtype)
        grads_SV.index_put_((of_BK, tokens_BK), scaled_BK.to(grads_SV.dtype), accumulate=True)
        return grads_SV, None, None, None, None


def why_not(model: Any) -> str:
    """Why this model cannot read a tree, in words; empty where it can."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config, takes = base.config.get_text_config(), inspect.signature(type(base).forward).parameters
    kinds = getattr(config, "layer_types", None)
    if others := sorted({*(kinds or ())} - {"full_attention"}):
        return f"it has layers of {' and '.join(others)}"
    if kinds is None and getattr(config, "sliding_window", None):
        return "it has sliding windows"
    if getattr(base, "_is_stateful", False):
        return "it has recurrent layers"
    if getattr(config, "alibi", False) or not {"position_ids", "logits_to_keep"} <= set(takes):
        return "it takes no positions of tokens"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation!r}, not 'sdpa'"
    return ""


def micro_batches(rows: Sequence[Rollout], size: int) -> list[list[Rollout]]:
    """All rows in micro-batches of `size` each, with as few prompts as possible in more than one; longest first.

    `size` divides the number of rows. Prompts with most rows are placed first, each where the least room is left over;
    one that fits nowhere is cut.
    """
    prompts = by_prompt(rows)
    batches: list[list[Rollout]] = [[] for _ in range(len(rows) // size)]
    for own in sorted(prompts, key=len, reverse=True):
        while own:
            fitting = [batch for batch in batches if size - len(batch) >= len(own)]
            chosen = max(fitting, key=len) if fitting else min(batches, key=len)
            room = size - len(chosen)
            chosen += own[:room]
            own = own[room:]
    return sorted(batches, key=_tokens, reverse=True)


def _tokens(rows: Sequence[Rollout]) -> int:
    """What a micro-batch reads, but for beginnings that replies or different prompts share."""
    return sum(map(len, {row.prompt_ids for row in rows})) + sum(len(row.completion_ids) for row in rows)
