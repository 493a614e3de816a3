from __future__ import annotations

import boto3
import pytest

from bertie.deploy.aws.session import Session
from bertie.deploy.sagemaker.images import image_uri, kind_of
from bertie.errors import UsageError


def session(region: str) -> Session:
    return Session(region, "123456789012", True, boto3.Session(region_name=region))


@pytest.mark.parametrize(
    ("region", "begins"),
    [
        ("us-east-1", "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:"),
        ("eu-south-1", "692866216735.dkr.ecr.eu-south-1.amazonaws.com/"),
        ("cn-north-1", "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/"),
        ("us-gov-west-1", "442386744353.dkr.ecr.us-gov-west-1.amazonaws.com/"),
    ],
)
def test_awss_image_by_region(region: str, begins: str) -> None:
    assert image_uri(session(region), "huggingface", gpu=False).startswith(begins)
    assert "-cpu-" in image_uri(session(region), "huggingface", gpu=False)
    assert "-gpu-" in image_uri(session(region), "huggingface", gpu=True)


def test_an_image_of_ones_own_is_taken_as_it_is() -> None:
    for uri in ("1.2/x:y", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b@sha256:" + "0" * 64):
        assert image_uri(session("eu-west-1"), uri, gpu=False) == uri


@pytest.mark.parametrize("wrong", ["bertie", "https://x/y", "a b/c", "123456789012.dkr.ecr.us-east-1.amazonaws.com/x"])
def test_what_cannot_be_pulled(wrong: str) -> None:
    with pytest.raises(UsageError):
        image_uri(session("eu-west-1"), wrong, gpu=False)


def test_the_image_decides_what_the_artifact_holds() -> None:
    assert kind_of("huggingface") == "huggingface"
    assert kind_of("763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:x") == "huggingface"
    assert kind_of("123456789012.dkr.ecr.us-east-1.amazonaws.com/bertie:1") == "bertie"
