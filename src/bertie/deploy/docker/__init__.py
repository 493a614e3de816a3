"""Bundle -> a Dockerfile with its build context -> an image."""
