"""What comes before and after a model, as functions on NumPy arrays. Nothing here imports torch or transformers: evaluation,
`predict` and a model server share it."""
