"""A bundle becomes a Classifier. numpy, tokenizers and an inference engine; never PyTorch."""
