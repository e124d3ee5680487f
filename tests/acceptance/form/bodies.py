"""The institute's bodies, to the letter; only what stands for a path or a column name is to be replaced."""

TRAIN = """\
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model/to/load, storage_type: local, objective: text-classification}
# objectives: causal-lm | masked-lm | next-sentence-prediction | text-classification | token-classification | question-answering | no-objective
model_train:
  epochs: 10
  batch_size: 32
  optimizer: {name: AdamW, init_lr: 2e-5, num_warm_steps: 1000, weight_decay_rate: 0.01}
dataset: {path: path/to/dataset/to/load, storage_type: s3, train_test_split: 0.1}
model_save: {path: path/to/model/to/save, storage_type: s3}
"""  # noqa: E501

CLASSIFY = """\
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: text-classification}
predict_input: {input_text: ["Frascati Natl Lab INFN LNF, Natl Inst Nucl Phys, Italy"]}
"""

FILL = """\
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: masked-lm}
predict_input: {input_text: ["Particles have corresponding antiparticles with the same mass but with [MASK] electric charges. Thus, the positron, which is a positively [MASK] [MASK], is the antiparticle of the negatively charged electron."]}
"""  # noqa: E501

INDEX = """\
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: no-objective}
dataset: {path: path/to/dataset/to/load, storage_type: s3, loader_kwargs: {page_content_column: column-name}}
vector_store_save: {path: path/to/vector/store/to/save, format: vector_store, storage_type: s3}
"""

SEARCH = """\
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: no-objective}
dataset: {path: path/to/vector/store/to/load, format: vector_store, storage_type: s3}
search_input: {input_text: ["Angular correlations between charged trigger and ..."]}
"""
