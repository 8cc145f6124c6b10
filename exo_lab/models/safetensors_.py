"""Safetensors, one file or several with an index, as a source of weights. Hub names become GGUF names on the way."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.models.config import config_from_json
from exo_lab.models.layout import OUTPUT
from exo_lab.models.safetensors_header import read_entries
from exo_lab.models.source import FileSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exo_lab.models.stored import TensorInfo

_ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.(.+)")
_NEEDLESS = ".rotary_emb.inv_freq"  # older checkpoints keep what follows from the config
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def gguf_name(name: str) -> str | None:
    """The GGUF name of a hub tensor; None for one that no engine knows."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return _ENDS.get(name)
    part = _PARTS.get(match[2])
    return None if part is None else f"blk.{match[1]}.{part}"


def open_safetensors(path: Path, name: str) -> FileSource:
    """The weights of a folder, or of one file. Reads headers only.

    Args:
        path: a folder with config.json and *.safetensors, or one file with config.json beside it.
        name: what the model is called.

    Raises:
        CorruptModel, UnsupportedModel: see their texts.
    """
    folder = path if path.is_dir() else path.parent
    config = config_from_json(read_json(folder / "config.json"), name)
    # The weights alone do not say how they are to be used, so the shape is a part of what identifies the model.
    digest = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(config, name="")))
    tensors: dict[str, TensorInfo] = {}
    for file in [path] if path.is_file() else weight_files(folder):
        entries, part = read_entries(file)
        digest.update(part)
        for hub_name, info in entries.items():
            if hub_name.endswith(_NEEDLESS):
                continue
            known = gguf_name(hub_name)
            if known is None:
                raise UnsupportedModel(f"{file}: {config.architecture} with a tensor {hub_name} is not supported")
            if known in tensors:
                raise CorruptModel(f"{file}: tensor {hub_name} is in {tensors[known].file.name} too")
            tensors[known] = info._replace(name=known)
    # Some files write a tied matrix twice; some checkpoints say "tied" only by leaving the head out.
    if config.tied_embeddings:
        tensors.pop(OUTPUT, None)
    tied = OUTPUT not in tensors
    config = msgspec.structs.replace(config, tied_embeddings=tied, digest=digest.hexdigest())
    return FileSource(path, config, tensors, half_split=True)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder that make up its model, by name; empty if there are none.

    Raises:
        CorruptModel: the index cannot be read, or names files that are not there.
    """
    index = folder / INDEX
    if index.exists():
        names = indexed_files(read_json(index), index)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CorruptModel(
                f"{folder} lacks {len(missing)} of the {len(names)} files that its index names, {missing[0]} first. "
                "Download them."
            )
        return [folder / name for name in names]
    single = folder / SINGLE
    # Beside it there may be the same weights once more, in another layout.
    return [single] if single.exists() else sorted(folder.glob("*.safetensors"))


def indexed_files(table: Mapping[str, object], where: object) -> list[str]:
    """The files that an index names, sorted; CorruptModel if there are none or they lie elsewhere."""
    weights = table.get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise CorruptModel(f"{where} has no weight_map. Download it again.")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise CorruptModel(f"{where} names {name!r}, which is not a safetensors file of that folder.")
    return names


def read_json(path: Path) -> dict[str, object]:
    """A JSON file that holds a table; CorruptModel if it is missing or something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CorruptModel(f"{path} is missing; a folder of safetensors needs it") from exc
    except (ValueError, RecursionError) as exc:
        raise CorruptModel(f"{path} is not JSON: {exc}. Download it again.") from exc
    if not isinstance(data, dict):
        raise CorruptModel(f"{path} does not hold a JSON object. Download it again.")
    return data
