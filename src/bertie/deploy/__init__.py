"""Bundle -> Docker, Amazon SageMaker, Kubernetes."""
