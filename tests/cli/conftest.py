from tests.deploy.conftest import cloud, moto

__all__ = ["cloud", "moto"]
