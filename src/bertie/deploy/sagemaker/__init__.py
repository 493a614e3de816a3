"""Bundle -> Amazon SageMaker: endpoints, batch transform, training."""
