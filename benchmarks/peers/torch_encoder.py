"""A sentence encoder as one writes it with transformers and torch: `python torch_encoder.py FOLDER TEXT`.

Prints the vector; then, for each line N that it reads, the median milliseconds of N encodings, one after the other.
"""

import statistics
import sys
import time

import torch
from transformers import AutoModel, AutoTokenizer


class Encoder:
    """The mean of the last states, of length 1 (all-MiniLM's pooling)."""

    def __init__(self, folder: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def __call__(self, text: str) -> list[float]:
        batch = self._tokenizer([text], return_tensors="pt")
        states = self._model(**batch).last_hidden_state
        return torch.nn.functional.normalize(states.mean(dim=1))[0].tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    encode, text = Encoder(sys.argv[1]), sys.argv[2]
    print(*encode(text), flush=True)
    for line in sys.stdin:
        spent = []
        for _ in range(int(line)):
            began = time.perf_counter()
            encode(text)
            spent.append(1e3 * (time.perf_counter() - began))
        print(statistics.median(spent), flush=True)
