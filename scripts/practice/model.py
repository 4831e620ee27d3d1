# mypy: allow-subclassing-any
"""A small Llama in plain torch, only for training. Names and shapes are those of transformers'
LlamaForCausalLM, so that the weights can be written out as they are."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokenizer import VOCABULARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The model's sizes; every quantised dimension is a multiple of 128."""

    vocabulary: int = VOCABULARY
    hidden: int = 256
    intermediate: int = 768
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    context_length: int = 4096
    rope_theta: float = 500000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Values per head."""
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    """Root mean square normalisation with a gain, no bias."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., hidden)."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Causal attention with rotary positions; groups of query heads share a key-value head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """x: (batch, length, hidden), causal."""
        b, t, _ = x.shape
        s = self.shape
        q = _rotate(self.q_proj(x).view(b, t, s.heads, s.head_dim).transpose(1, 2), rope)
        k = _rotate(self.k_proj(x).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2), rope)
        v = self.v_proj(x).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2)
        k = k.repeat_interleave(s.heads // s.kv_heads, dim=1)
        v = v.repeat_interleave(s.heads // s.kv_heads, dim=1)
        if t <= 256:  # written out: on a CPU faster than the fused kernel for short rows
            scores = q @ k.transpose(-1, -2) * s.head_dim**-0.5
            future = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
            mixed = scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(b, t, s.hidden))
        return out


class MLP(nn.Module):
    """The gated feed-forward part (SwiGLU)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., hidden)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One block: attention, then feed-forward, each around a residual path."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """x: (batch, length, hidden)."""
        x = x + self.self_attn(self.input_layernorm(x), rope)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)

    def forward(self, ids: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden states (batch, length, hidden) of ids (batch, length)."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, rope)
        out: Tensor = self.norm(x)
        return out


class Llama(nn.Module):
    """The decoder and its output layer, which shares nothing with the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self._start(shape)

    def _start(self, shape: Shape) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = (
                    0.02
                    if "down_proj" not in name and "o_proj" not in name
                    else (0.02 / (2 * shape.layers) ** 0.5)
                )
                nn.init.normal_(weight, std=std)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Logits (wanted positions, vocabulary) of ids (batch, length); wanted is a mask like ids.

        Only the learned positions pass the output layer, which is a third of all the work."""
        hidden = self.model(ids, self.rope(ids.shape[1]))
        out: Tensor = self.lm_head(hidden[wanted])
        return out

    def rope(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin, (length, head_dim), in the half-split layout of transformers."""
        half = self.shape.head_dim // 2
        device = self.lm_head.weight.device
        speed = self.shape.rope_theta ** (-torch.arange(half, device=device).float() / half)
        angle = torch.arange(length, device=device).float()[:, None] * speed
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (part.to(x.dtype) for part in rope)
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin
