"""Starts a training job with version 3 of SageMaker's SDK, as its users do: run by the environment `sagemaker-sdk`.

`python sdk_program.py BUCKET ROLE SOURCE DATA BASE HYPERPARAMETERS INSTANCES DRIVER`, the hyperparameters as JSON; the
driver is `basic` or `torchrun`. AWS_ENDPOINT_URL says where to. The job is started and not waited for.
"""
# mypy: ignore-errors

from __future__ import annotations

import json
import sys

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.distributed import Torchrun

bucket, role, source, data, base, hyperparameters, instances, driver = sys.argv[1:]
trainer = ModelTrainer(
    sagemaker_session=Session(default_bucket=bucket),
    role=role,
    training_image="763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker",
    source_code=SourceCode(source_dir=source, entry_script="train.py", requirements="requirements.txt"),
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=int(instances)),
    distributed=Torchrun() if driver == "torchrun" else None,
    hyperparameters=json.loads(hyperparameters),
    base_job_name="classifier",
)
channels = [InputData(channel_name="train", data_source=data), InputData(channel_name="base", data_source=base)]
trainer.train(input_data_config=channels, wait=False, logs=False)
