"""From the files of other systems to LlamaModels and a ModelRouter; pure: text in, text out."""
