"""Bundle -> manifests for Kubernetes, KServe and Kubeflow."""
