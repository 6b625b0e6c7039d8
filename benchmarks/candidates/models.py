"""The model in the form each candidate reads: a Hugging Face folder, and GGUF files of the same weights.

The end token's row in the output layer is set to zero (so its logit is 0, far below the likeliest token's): every greedy reply then has the
full length, whoever writes it, and no candidate needs a switch of its own for that.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def never_ending(base: Path, out: Path) -> None:
    """A copy of the model folder `base` whose greedy replies never end by themselves."""
    shutil.copytree(base, out)
    config = _config(base)
    weights = load_file(base / "model.safetensors")
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).clone()
    head[config["eos_token_id"]] = 0
    save_file(weights | {"lm_head.weight": head}, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")


def gguf_file(folder: Path, kind: str, out: Path) -> None:
    """The Llama model of `folder` as a GGUF file with matrices of type `kind` (F16, Q8_0, ...)."""
    import gguf

    config = _config(folder)
    matrices = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    _add_shape(writer, config)
    _add_tokenizer(writer, folder, config)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        layer = name.split(".")[-2]
        array = (_interleaved(weight, heads[layer]) if layer in heads else weight).float().numpy()
        target = names.get_name(name, try_suffixes=(".weight",))
        if weight.dim() == 1:
            writer.add_tensor(target, array)
        else:
            writer.add_tensor(target, gguf.quants.quantize(array, matrices), raw_dtype=matrices)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows in GGUF's order of rotary pairs (first, second, first, ...); Hugging Face has all first ones before the second ones."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    from gguf import TokenType

    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocabulary = sorted(ids, key=ids.__getitem__)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in vocabulary])
    writer.add_token_merges(merges)
    for kind, add in {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
    }.items():
        if config[f"{kind}_token_id"] is not None:
            add(config[f"{kind}_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))
