"""Small tokenizers of each kind and small random models, for the tests."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    CamembertTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from lib.tiny.causal import train_tokenizer

CORPUS = [
    "l' histoire est vraiment ennuyeuse , aujourd'hui je m' endors",
    'un film " magnifique " et bouleversant : à voir <URL> !',
    "NBR étoiles pour ce navet , ou presque . Qu' en dire ?",
    "J' ai adoré l' été , la mer et les acteurs ( tous ) .",
]
MODELS = {
    "bert": (BertConfig, BertForSequenceClassification),
    "camembert": (CamembertConfig, CamembertForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification),
}
CAUSAL_MODELS = {"gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
CAUSAL_SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 512,
}
# of an encoder whose parameters can be counted by hand
SHAPE = {
    "vocab_size": 44,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "pad_token_id": 1,
}


def camembert_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = CamembertTokenizer()._tokenizer.pre_tokenizer
    specials = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
    unknown = {"unk_token": "<unk>"}
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=90, special_tokens=specials, show_progress=False, **unknown),
    )
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return CamembertTokenizer(vocab=[*map(tuple, pieces), ("<mask>", 0.0)])


def bert_tokenizer() -> PreTrainedTokenizerBase:
    specials = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token=specials["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=80, special_tokens=list(specials.values()), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": token for name, token in specials.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def roberta_tokenizer(trim_offsets: bool = True) -> PreTrainedTokenizerBase:
    specials = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=list(specials.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=False
    )
    names = {f"{name}_token": token for name, token in specials.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def classifier(kind: str, *, seed: int = 0, spread: float = 0.3, **settings: object) -> PreTrainedModel:
    """Build a random classifier in float64 whose weights vary enough that attention is not uniform."""
    config_class, model_class = MODELS[kind]
    defaults = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 80,
        "pad_token_id": 1,
        "initializer_range": spread,
        "num_labels": 2,
    }
    torch.manual_seed(seed)
    model = model_class(config_class(**(defaults | settings))).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers initialises them to 0, which would hide mistakes
                parameter.normal_(std=0.1)
    return model


def save_model(family: str, folder: Path) -> None:
    """Write a small random model of a family, and its tokenizer, into a folder."""
    if family in CAUSAL_MODELS:
        tokenizer = train_tokenizer(family, CORPUS)
        config_class, model_class = CAUSAL_MODELS[family]
        torch.manual_seed(0)
        # A tokenizer trained on four sentences cuts the paper's prompts into 900 pieces.
        shape = CAUSAL_SHAPE | {"max_position_embeddings": 1_024}
        model = model_class(config_class(vocab_size=len(tokenizer), **shape))
    else:
        of_family = {"bert": bert_tokenizer, "camembert": camembert_tokenizer, "roberta": roberta_tokenizer}
        tokenizer = of_family[family]()
        model = classifier(family, vocab_size=len(tokenizer), max_position_embeddings=514).float().base_model
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
