"""Starts a real inference toolkit on multi-model-server: `toolkit_program.py TOOLKIT CONFIGURATION`.

Run by the Python of an environment of its own. The configuration file is /etc/sagemaker-mms.properties elsewhere.
"""

from __future__ import annotations

import importlib
import sys

MODULES = {
    "sagemaker-inference": "sagemaker_inference.model_server",
    "huggingface": "sagemaker_huggingface_inference_toolkit.mms_model_server",
}


def main() -> None:
    toolkit, configuration = sys.argv[1:]
    for name in dict.fromkeys((MODULES["sagemaker-inference"], MODULES[toolkit])):
        importlib.import_module(name).MMS_CONFIG_FILE = configuration  # type: ignore[attr-defined]
    importlib.import_module(MODULES[toolkit]).start_model_server()


if __name__ == "__main__":
    main()
