"""Train and host on Amazon SageMaker from Python, in a few lines."""
