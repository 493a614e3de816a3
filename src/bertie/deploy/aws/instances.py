"""Families of instance types: what is in them, and which a model can use. The one table of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bertie.errors import UsageError, nearest

Kind = Literal["cpu", "arm", "gpu", "neuron", "other"]
"""What computes: x86 processors, ARM ones (Graviton), NVIDIA GPUs, AWS's Inferentia and Trainium, or else."""

FAMILIES: dict[Kind, str] = {
    "cpu": "t2 t3 m4 m5 m5d m6i m6id m6a m7i m7i-flex m7a m8i m8i-flex c4 c5 c5d c5n c6i c6id c6in c6a c7i c7i-flex "
    "c7a c8i c8i-flex r5 r5d r6i r6id r7i r7a r8i r8i-flex",
    "arm": "m6g m6gd m7g m8g c6g c6gd c6gn c7g c8g r6g r6gd r7g r7gd r8g",
    "gpu": "p2 p3 p3dn p4d p4de p5 p5e p5en p6-b200 p6-b300 p6e-gb200 g4dn g5 g6 g6e gr6 g7 g7e",
    "neuron": "inf1 inf2 trn1 trn1n trn2 trn2u",
    "other": "dl1",
}
"""Source: the enumerations of instance types in the service description of botocore 1.44.5."""

LOCAL_DISK = (
    "m5d m6gd m6id c5d c6gd c6id r5d r6gd r6id r7gd g4dn g5 g6 g6e gr6 g7 g7e p3dn p4d p4de p5 p5e p5en trn1 trn1n"
)
"""Families with disks of their own: those are encrypted by the hardware, and a KMS key for them is refused."""

ELASTIC = (
    "Amazon Elastic Inference attached a part of a GPU to a CPU machine. AWS took no new customers from April 2023 "
    "on and has since shut it down. For a BERT classifier its place is taken by: a quantised model on a CPU type with "
    "AVX-512 or AMX (ml.c6i, ml.c7i; see bertie optimize), Graviton (ml.c7g, ml.c8g), a small GPU (ml.g4dn.xlarge, "
    "ml.g5.xlarge, ml.g6.xlarge), Inferentia2 (ml.inf2.xlarge), --serverless where requests are rare, or a partition "
    "of a larger GPU (MIG)."
)


@dataclass(frozen=True)
class Instance:
    """An instance type, taken apart."""

    name: str
    family: str
    kind: Kind

    @property
    def takes_key(self) -> bool:
        """Whether its disks are encrypted with a KMS key of the user's, not by its hardware."""
        return self.family not in LOCAL_DISK.split()


def instance(name: str) -> Instance:
    """Return an instance type. Raises UsageError for Elastic Inference, and for what is not one or is not known."""
    found = re.fullmatch(r"ml\.([a-z0-9-]+)\.(\w+)", name)
    if re.match(r"(ml\.)?eia\d", name):
        raise UsageError(f"{name!r} is an Elastic Inference type, and that no longer exists.", hint=ELASTIC)
    if not found:
        hint = f"did you mean 'ml.{name}'?" if re.fullmatch(r"[a-z0-9-]+\.\w+", name) else ""
        raise UsageError(
            f"{name!r} is not an instance type.", expected="ml.FAMILY.SIZE, such as ml.c7i.xlarge", hint=hint
        )
    for kind, families in FAMILIES.items():
        if found[1] in families.split():
            return Instance(name, found[1], kind)
    known = " ".join(FAMILIES.values()).split()
    raise UsageError(f"the family of {name!r} is not known.", hint=nearest(found[1], known))


def refuse_accelerator(name: str, what: str) -> Instance:
    """Return a CPU instance type for something that computes on a CPU only, called `what`.

    Raises UsageError for one with an accelerator, which would be paid for and stand idle.
    """
    type_ = instance(name)
    if type_.kind in {"cpu", "arm"}:
        return type_
    part = {"gpu": "a GPU", "neuron": "a Neuron accelerator"}.get(type_.kind, "an accelerator")
    raise UsageError(
        f"{name!r} has {part}, and {what} runs on the CPU only: it would be paid for and stand idle.",
        hint="take a CPU type, such as ml.c7i.xlarge; bertie deploy sagemaker-recommend MODEL finds one",
    )
