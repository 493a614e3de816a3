"""The text of the Dockerfile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from bertie.deploy.container.__main__ import MODEL

USER = "65532:65532"
"""As a number, so that Kubernetes can see that it is not root."""

START_SECONDS = 480
"""Time to become ready before it counts as ill: what SageMaker allows a container."""

NO_TORCH = """ \\
 && python -c "import importlib.util, sys; \\
    found = [name for name in ('torch', 'transformers') if importlib.util.find_spec(name)]; \\
    sys.exit(f'{found} does not belong into an image that only serves' if found else 0)\""""


@dataclass(frozen=True)
class Recipe:
    """What differs between two Dockerfiles."""

    base_image: str
    wheel: str
    with_training: bool = False
    bake: bool = True
    index: bool = True  # whether pip may ask one
    extras: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def dockerfile(recipe: Recipe) -> str:
    """Return the Dockerfile for a context with `wheels/`, `requirements.txt` and, if it is baked in, `bundle/`."""
    labels = " \\\n      ".join(f"{name}={_quoted(value)}" for name, value in recipe.labels.items())
    baked = f"COPY bundle/ {MODEL}/\n" if recipe.bake else ""
    return f"""# Written by `bertie deploy docker`: the words `serve` and `train` start it, as SageMaker wants it.
ARG BASE_IMAGE={recipe.base_image}

FROM ${{BASE_IMAGE}} AS build
# Another index of packages: --build-arg PIP_INDEX_URL=...; none at all, with every wheel in wheels/: PIP_NO_INDEX=1.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_INDEX{"" if recipe.index else "=1"}
COPY requirements.txt /build/
COPY wheels/ /build/wheels/
{_install(recipe)}
FROM ${{BASE_IMAGE}}
COPY --from=build /opt/bertie /opt/bertie
# Nothing is written but to /tmp: the root file system may be read-only.
ENV PATH=/opt/bertie/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp BERTIE_CACHE=/tmp/bertie
RUN mkdir -p {MODEL} && bertie --version{"" if recipe.with_training else NO_TORCH}
# From here on one model's image differs from another's; they share what is above.
LABEL {labels}
{baked}{_user(recipe)}WORKDIR /opt/ml
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period={START_SECONDS}s --retries=3 \\
    CMD ["python", "-m", "bertie.deploy.container.ping"]
ENTRYPOINT ["python", "-m", "bertie.deploy.container"]
CMD ["serve"]
"""


def _install(recipe: Recipe) -> str:
    """Return the steps that make /opt/bertie.

    To serve, exactly the listed packages come in, and `pip check` says whether one is missing. PyTorch's wheel needs
    other packages on each platform; there the list holds versions, and pip finds out what is needed.
    """
    wheel = f"/build/wheels/{recipe.wheel}"
    if recipe.with_training:
        extras = ",".join(recipe.extras)
        packages = f"--constraint /build/requirements.txt '{wheel}[{extras}]'"
    else:
        packages = f"--no-deps --requirement /build/requirements.txt {wheel}"
    return f"""RUN python -m venv --without-pip /opt/bertie \\
 && python -m pip --python /opt/bertie/bin/python install --no-cache-dir --disable-pip-version-check \\
    --only-binary :all: --find-links /build/wheels {packages} \\
 && python -m pip --python /opt/bertie/bin/python check
"""


def _user(recipe: Recipe) -> str:
    if recipe.with_training:
        return "# Trains as root: the folders that SageMaker mounts for results belong to root.\n"
    return f"USER {USER}\n"


def _quoted(value: str) -> str:
    # JSON's quotes are those of a Dockerfile, which also replaces $NAME.
    return json.dumps(value, ensure_ascii=False).replace("$", r"\$")
