"""What a user of transformers has written already: a Trainer, and `report_to` naming Kubeflow. It knows nothing of the platform.

A row takes a tenth of a second to come: the callback reports every five seconds at most, and there is to be something on the way.
"""

import time
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Rows(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(0.1)
        return {"input_ids": torch.full((8,), index % 10), "labels": index % 2}


torch.manual_seed(0)
config = BertConfig(
    vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, num_labels=2
)
Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(
        output_dir="output",
        num_train_epochs=1,
        per_device_train_batch_size=2,
        logging_steps=2,
        save_strategy="no",
        report_to=["kubeflow"],
        use_cpu=True,
        dataloader_pin_memory=False,
    ),
    train_dataset=Rows(),
).train()
