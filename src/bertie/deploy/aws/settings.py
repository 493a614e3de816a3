"""The settings that everything on AWS shares: who, where, under which key, in which network."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, field_validator

from bertie.settings import Settings

MOST_TAGS = 49
"""AWS takes fifty tags on a resource; one of them is ours."""


def parts(text: str) -> list[str]:
    """Return the parts of a list that is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def pairs(text: str) -> dict[str, str]:
    """Return names and values of a list of KEY=VALUE."""
    return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in parts(text))}


def _have_values(text: str) -> str:
    if any(not part.partition("=")[0] or "=" not in part for part in parts(text)):
        raise ValueError("KEY=VALUE, separated by commas")
    return text


Pairs = Annotated[str, AfterValidator(_have_values)]
"""The type of a setting that is a list of KEY=VALUE."""


class AwsSettings(Settings):
    """Where in AWS, in whose name and under whose rules."""

    command: ClassVar[str] = "deploy sagemaker"

    role: str | None = Field(
        None, description="IAM role that the machines run as: its name or ARN. They read and write S3 and logs with it."
    )
    region: str | None = Field(
        None, description="AWS region, such as eu-west-1; that of the environment or profile if not given."
    )
    profile: str | None = Field(None, description="Profile of ~/.aws/config with the credentials to use.")
    bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="S3 bucket for what is uploaded; sagemaker-REGION-ACCOUNT, made if it is missing, if not given.",
    )
    tags: Pairs = Field("", description="Tags for everything that is made, KEY=VALUE, separated by commas.")
    kms_key: str | None = Field(None, description="KMS key (id, ARN or alias) that encrypts disks and files in S3.")
    subnets: str = Field("", description="Subnets of your VPC to run in, separated by commas.")
    security_groups: str = Field("", description="Security groups in that VPC, separated by commas.")

    @field_validator("tags")
    @classmethod
    def _tags_are_ours_to_give(cls, tags: str) -> str:
        if any(pair.lower().startswith(("aws:", "bertie:")) for pair in parts(tags)):
            raise ValueError("keys that do not begin with aws: or bertie:")
        if len(parts(tags)) > MOST_TAGS:
            raise ValueError(f"at most {MOST_TAGS} tags")
        return tags

    def network(self) -> dict[str, list[str]] | None:
        """Return the VpcConfig of a request; None outside a VPC. One of the two alone is refused by AWS."""
        subnets, groups = parts(self.subnets), parts(self.security_groups)
        return {"SecurityGroupIds": groups, "Subnets": subnets} if subnets or groups else None

    def flags(self, region: str | None) -> str:
        """Return the flags with which a command that is shown looks in the same place."""
        found = {"region": region or self.region, "profile": self.profile, "bucket": self.bucket}
        return "".join(f" --{name} {value}" for name, value in found.items() if value)

    def tag_pairs(self) -> dict[str, str]:
        """Return the user's tags."""
        return pairs(self.tags)
