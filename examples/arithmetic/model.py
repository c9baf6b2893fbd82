"""The Qwen2 architecture in PyTorch, with the tensor names of the hub.

Sequences of a batch are laid end to end, so that no linear layer spends time
on padding; attention alone sees them as a padded `[batch, length]` grid.
"""

import dataclasses
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

GROUP = 32  # inputs that share one int4 scale


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tie_word_embeddings: bool
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6

    @property
    def head_dim(self):
        return self.hidden_size // self.num_attention_heads


def int4(weight, mode):
    """`weight` rounded to int4 in groups along its input dimension."""
    groups = weight.reshape(*weight.shape[:-1], -1, GROUP)
    if mode == "symmetric":
        scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-8) / 7
        rounded = (groups / scale).round().clamp(-8, 7) * scale
    else:
        low = groups.amin(-1, keepdim=True).clamp(max=0)
        high = groups.amax(-1, keepdim=True).clamp(min=0)
        scale = (high - low).clamp(min=1e-8) / 15
        zero = (-low / scale).round()
        codes = ((groups / scale).round() + zero).clamp(0, 15)
        rounded = (codes - zero) * scale
    return rounded.reshape(weight.shape)


def rounded(weight, mode):
    """`int4`, transparent to gradients; `weight` itself where mode is None."""
    if mode is None:
        return weight
    return weight + (int4(weight.detach(), mode) - weight.detach())


class Linear(nn.Linear):
    """A linear layer that can be trained as if its weight were int4."""

    mode = None

    def forward(self, x):
        return F.linear(x, rounded(self.weight, self.mode), self.bias)


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x, cos, sin):
    """RoPE of `x` [..., head_dim]: dimension i pairs with i + head_dim / 2."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        kv = c.num_key_value_heads * c.head_dim
        self.q_proj = Linear(c.hidden_size, c.hidden_size)
        self.k_proj = Linear(c.hidden_size, kv)
        self.v_proj = Linear(c.hidden_size, kv)
        self.o_proj = Linear(c.hidden_size, c.hidden_size, bias=False)

    def heads(self, x, cos, sin):
        """q, k and v of tokens `x` [n, hidden], each [n, heads, head_dim]."""
        q, k, v = (proj(x).unflatten(-1, (-1, self.c.head_dim))
                   for proj in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def attend(self, q, k, v, causal):
        """Attention over [batch, length, heads, head_dim]."""
        group = self.c.num_attention_heads // self.c.num_key_value_heads
        q = q.transpose(1, 2)
        k = k.transpose(1, 2).repeat_interleave(group, dim=1)
        v = v.transpose(1, 2).repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return out.transpose(1, 2).flatten(2)

    def forward(self, x, cos, sin, grid):
        batch, length, index = grid

        def pad(t):
            # Sequences end in their padding, which the causal mask hides.
            padded = t.new_zeros(batch * length, *t.shape[1:])
            return padded.index_copy(0, index, t).unflatten(0, (batch, length))

        q, k, v = map(pad, self.heads(x, cos, sin))
        out = self.attend(q, k, v, causal=True)
        return self.o_proj(out.flatten(0, 1).index_select(0, index))

    def step(self, x, cos, sin, cache):
        """Tokens `x` [batch, n, hidden] that follow those in `cache`."""
        batch, n, _ = x.shape
        q, k, v = (t.unflatten(0, (batch, n))
                   for t in self.heads(x.flatten(0, 1), cos, sin))
        if cache:
            k, v = torch.cat((cache[0], k), 1), torch.cat((cache[1], v), 1)
        cache[:] = k, v
        return self.o_proj(self.attend(q, k, v, causal=n > 1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn = Attention(c)
        self.mlp = MLP(c)
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, x, attend):
        x = x + attend(self.self_attn, self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class Qwen2(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.mode = None
        self.model = Decoder(c)
        if not c.tie_word_embeddings:
            self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        frequency = c.rope_theta ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
        angles = torch.arange(c.max_position_embeddings)[:, None] * frequency
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialize()

    def _initialize(self):
        # The two projections that write to the residual stream start smaller
        # by the number of writes, so that depth leaves its scale alone.
        writes = (2 * self.c.num_hidden_layers) ** -0.5
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.dim() == 2:
                std = 0.02 if "embed" in name or "lm_head" in name else \
                    0.7 * weight.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= writes
                nn.init.normal_(weight, std=std)

    def quantize(self, mode):
        """Computes with int4 weights from now on, or as stored for None."""
        self.mode = mode
        for module in self.modules():
            if isinstance(module, Linear):
                module.mode = mode

    def _embed(self, ids):
        return F.embedding(ids, rounded(self.model.embed_tokens.weight, self.mode))

    def _logits(self, x):
        head = self.model.embed_tokens if self.c.tie_word_embeddings else self.lm_head
        return F.linear(self.model.norm(x), rounded(head.weight, self.mode))

    def forward(self, ids, positions, grid, wanted):
        """Logits at the `wanted` of the tokens `ids` [n], laid end to end."""
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        x = self._embed(ids)
        for layer in self.model.layers:
            x = layer(x, lambda attn, h: attn(h, cos, sin, grid))
        return self._logits(x.index_select(0, wanted))

    @torch.no_grad()
    def generate(self, prompts, eos, limit):
        """Greedy replies to `prompts` [batch, length], `eos` left out."""
        caches = [[] for _ in self.model.layers]
        batch, ids, past, columns = len(prompts), prompts, 0, []
        done = torch.zeros(batch, dtype=torch.bool)
        while len(columns) < limit and not done.all():
            at = torch.arange(past, past + ids.shape[1]).repeat(batch)
            cos, sin = self.cos[at][:, None], self.sin[at][:, None]
            x = self._embed(ids)
            for layer, cache in zip(self.model.layers, caches):
                x = layer(x, lambda attn, h: attn.step(h, cos, sin, cache))
            past += ids.shape[1]
            ids = self._logits(x[:, -1]).argmax(-1, keepdim=True)
            columns.append(ids)
            done |= ids[:, 0] == eos
        replies = torch.cat(columns, 1).tolist()
        return [r[:r.index(eos)] if eos in r else r for r in replies]

    def save(self, directory, eos, pad):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        c = dataclasses.asdict(self.c)
        config = {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": pad,
            "eos_token_id": eos,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_window_layers": self.c.num_hidden_layers,
            "model_type": "qwen2",
            "pad_token_id": pad,
            "sliding_window": None,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            **c,
        }
        generation = {"bos_token_id": pad, "do_sample": False,
                      "eos_token_id": [eos, pad], "pad_token_id": pad}
        for name, content in (("config.json", dict(sorted(config.items()))),
                              ("generation_config.json", generation)):
            (directory / name).write_text(json.dumps(content, indent=2) + "\n")
        tensors = {name: t.detach().bfloat16().contiguous()
                   for name, t in self.state_dict().items()}
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
