"""Foreign manifests: what documents of other systems mean here, and resources of ours in their words."""
