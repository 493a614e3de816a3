from __future__ import annotations

import botocore.session
import pytest

from bertie.deploy.aws.instances import FAMILIES, LOCAL_DISK, instance, refuse_accelerator
from bertie.errors import UsageError


def test_every_type_that_the_client_library_knows_has_its_place() -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    for shape in ("ProductionVariantInstanceType", "TrainingInstanceType", "TransformInstanceType"):
        for name in model.shape_for(shape).enum:
            assert instance(name).name == name


def test_no_family_stands_there_twice() -> None:
    families = [family for row in FAMILIES.values() for family in row.split()]
    assert len(families) == len(set(families))
    assert set(LOCAL_DISK.split()) <= set(families)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ml.c7i.xlarge", "cpu"), ("ml.c8g.large", "arm"), ("ml.g5.xlarge", "gpu"), ("ml.inf2.xlarge", "neuron")],
)
def test_kinds(name: str, kind: str) -> None:
    assert instance(name).kind == kind


@pytest.mark.parametrize("name", ["ml.eia2.medium", "eia1.large"])
def test_elastic_inference_is_refused_with_what_replaced_it(name: str) -> None:
    with pytest.raises(UsageError, match="no longer exists") as raised:
        instance(name)
    for successor in ("inf2", "g5", "serverless", "Graviton", "MIG"):
        assert successor in raised.value.hint


@pytest.mark.parametrize(("name", "hint"), [("c7i.xlarge", "ml.c7i.xlarge"), ("ml.c77.xlarge", "c7"), ("large", "")])
def test_what_is_no_instance_type(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        instance(name)
    assert hint in raised.value.hint


def test_an_accelerator_that_would_stand_idle() -> None:
    with pytest.raises(UsageError, match="GPU"):
        refuse_accelerator("ml.g5.xlarge", "this bundle")
    with pytest.raises(UsageError, match="Neuron"):
        refuse_accelerator("ml.inf2.xlarge", "this bundle")
    assert refuse_accelerator("ml.c7i.xlarge", "this bundle").family == "c7i"
