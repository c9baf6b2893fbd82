"""A byte-level BPE tokenizer in the format of Qwen2.5, learnt from the chains.

Digits stay one token each, as the pre-tokenizer splits them off; merges are
learnt for words alone, so that symbols keep one spelling wherever they stand.
"""

import collections
import json
import re
from pathlib import Path

# Qwen2.5's pattern, and the same one in the syntax of `re`.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:(?![^\W\d_])[^\r\n\d])?[^\W\d_]+|\d"
    r"| ?(?:_|[^\s\w])+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The last two are ordinary text to a detokenizer, so the chain stays visible.
ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
SPECIAL = 3

CHAT_TEMPLATE = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)


def chat_prompt(text):
    """What the chat template renders for one user message."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def _byte_alphabet():
    """GPT-2's printable character for each byte, in the order of Qwen's ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    chars = {b: chr(b) for b in printable}
    chars.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return chars


BYTES = _byte_alphabet()


class Tokenizer:
    def __init__(self, merges):
        self.merges = merges
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        pieces = [*BYTES.values(), *(a + b for a, b in merges)]
        self.vocab = {piece: i for i, piece in enumerate(pieces)}
        self.added = {text: len(pieces) + i for i, text in enumerate(ADDED)}
        self.eos = self.added["<|im_end|>"]
        self.pad = self.added["<|endoftext|>"]
        self.size = len(pieces) + len(ADDED)
        self._cut = re.compile("(" + "|".join(map(re.escape, ADDED)) + ")")
        self._cache = {}
        self._pieces = {i: piece for piece, i in self.vocab.items()}
        self._bytes = {char: byte for byte, char in BYTES.items()}

    @classmethod
    def learn(cls, texts):
        """Merges the most frequent pair until every word is one token."""
        words = collections.Counter()
        cut = re.compile("|".join(map(re.escape, ADDED)))
        for text in texts:
            for part in cut.split(text):
                words.update(w for w in SPLIT.findall(part) if w[-1].isalpha())
        spelled = {w: [BYTES[b] for b in w.encode()] for w in words}
        merges = []
        while True:
            pairs = collections.Counter()
            for word, pieces in spelled.items():
                for pair in zip(pieces, pieces[1:]):
                    pairs[pair] += words[word]
            if not pairs:
                return cls(merges)
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
            merges.append(best)
            spelled = {w: _merge(p, best) for w, p in spelled.items()}

    def encode(self, text):
        ids = []
        for part in self._cut.split(text):
            if part in self.added:
                ids.append(self.added[part])
            else:
                for word in SPLIT.findall(part):
                    ids += self._word(word)
        return ids

    def _word(self, word):
        if word not in self._cache:
            pieces = [BYTES[b] for b in word.encode()]
            while len(pieces) > 1:
                best = min(zip(pieces, pieces[1:]),
                           key=lambda pair: self.ranks.get(pair, len(self.ranks)))
                if best not in self.ranks:
                    break
                pieces = _merge(pieces, best)
            self._cache[word] = [self.vocab[piece] for piece in pieces]
        return self._cache[word]

    def decode(self, ids):
        """The text of `ids`, special tokens left out."""
        visible = {self.added[text]: text for text in ADDED[SPECIAL:]}
        out = bytearray()
        for i in ids:
            if i in visible:
                out += visible[i].encode()
            elif i in self._pieces:
                out += bytes(self._bytes[c] for c in self._pieces[i])
        return out.decode(errors="replace")

    def _added_entry(self, text):
        return {
            "content": text, "lstrip": False, "normalized": False,
            "rstrip": False, "single_word": False,
            "special": text in ADDED[:SPECIAL],
        }

    def save(self, directory, max_length):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False,
                      "trim_offsets": False, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": PATTERN},
                 "behavior": "Isolated", "invert": False}
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, **self._added_entry(text)}
                             for text, i in self.added.items()],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence",
                              "pretokenizers": [split, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None,
                "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": False, "byte_fallback": False,
                "vocab": self.vocab,
                "merges": [f"{a} {b}" for a, b in self.merges],
            },
        }
        config = {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(i): self._added_entry(text)
                                     for text, i in self.added.items()},
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": max_length,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        }
        for name, content in (("tokenizer.json", tokenizer),
                              ("tokenizer_config.json", config)):
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (Path(directory) / name).write_text(text + "\n", encoding="utf-8")


def _merge(pieces, pair):
    out, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i:i + 2]) == pair:
            out.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            out.append(pieces[i])
            i += 1
    return out
