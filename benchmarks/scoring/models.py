"""The same checkpoint in the form that each peer reads.

`python -m benchmarks.scoring.models KIND CHECKPOINT OUT TEXTS` runs in a peer's Python. TEXTS is a JSON list of
training texts, for static quantization.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

CALIBRATION = 300


def optimum_onnx(checkpoint: Path, out: Path, texts: list[str]) -> None:
    """Write `onnx` (as exported), and `optimum-int8`."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig
    from transformers import AutoTokenizer

    exported, quantized = out / "onnx", out / "optimum-int8"
    ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(exported)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(exported)
    configuration = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(exported).quantize(save_dir=quantized, quantization_config=configuration)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(quantized)


def onnxruntime(checkpoint: Path, out: Path, texts: list[str]) -> None:
    """Add to `onnx` the model with fused operations, and both in dynamic int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    folder = out / "onnx"
    shape = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    fused: Any = optimizer.optimize_model(
        str(folder / "model.onnx"),
        model_type="bert",
        num_heads=shape["num_attention_heads"],
        hidden_size=shape["hidden_size"],
        opt_level=0,
    )
    fused.save_model_to_file(str(folder / "fused.onnx"))
    for source, target in (("model", "int8"), ("fused", "fused_int8")):
        quantize_dynamic(
            folder / f"{source}.onnx",
            folder / f"{target}.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def optimum_intel(checkpoint: Path, out: Path, texts: list[str]) -> None:
    """Write `openvino`, and `openvino-int8`."""
    from datasets import Dataset
    from optimum.intel.openvino import OVConfig, OVModelForSequenceClassification, OVQuantizationConfig, OVQuantizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = OVModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    model.save_pretrained(out / "openvino")
    encoded = tokenizer(texts[:CALIBRATION], truncation=True)
    OVQuantizer.from_pretrained(model).quantize(
        calibration_dataset=Dataset.from_dict(dict(encoded)),
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=CALIBRATION)),
        save_directory=out / "openvino-int8",
    )
    for name in ("openvino", "openvino-int8"):
        tokenizer.save_pretrained(out / name)


def infinity(checkpoint: Path, out: Path, texts: list[str]) -> None:
    """Write `infinity`: the checkpoint, and beside it both ONNX models, of which infinity takes what it prefers."""
    folder = out / "infinity"
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    (folder / "onnx").mkdir(exist_ok=True)
    shutil.copyfile(out / "onnx" / "model.onnx", folder / "onnx" / "model.onnx")
    shutil.copyfile(out / "onnx" / "int8.onnx", folder / "onnx" / "model_quantized.onnx")


KINDS = {
    "optimum-onnx": ("optimum-onnx", optimum_onnx),
    "onnxruntime": ("", onnxruntime),
    "optimum-intel": ("optimum-intel", optimum_intel),
    "infinity": ("", infinity),
}
"""In the order in which they are made: in which environment, and how."""


if __name__ == "__main__":
    kind, given, target, file = sys.argv[1:]
    KINDS[kind][1](Path(given), Path(target), json.loads(Path(file).read_text(encoding="utf-8")))
