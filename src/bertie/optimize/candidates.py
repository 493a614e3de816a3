"""The candidates, in the order in which they are tried. A new one is one small file and one line here."""

from __future__ import annotations

from bertie.optimize.candidate import Candidate
from bertie.optimize.onnx_fused import OnnxFused
from bertie.optimize.onnx_gpu import OnnxCuda, OnnxTensorRt
from bertie.optimize.onnx_int8_dynamic import OnnxInt8Dynamic
from bertie.optimize.onnx_int8_static import OnnxInt8Static
from bertie.optimize.openvino_float import OpenVinoFloat
from bertie.optimize.openvino_int8 import OpenVinoInt8, OpenVinoInt8Mixed

CANDIDATES: tuple[Candidate, ...] = (
    OnnxFused(),
    OnnxInt8Dynamic(embeddings=False),
    OnnxInt8Dynamic(embeddings=True),
    OnnxInt8Static(),
    OpenVinoFloat("fp32"),
    OpenVinoFloat("bf16"),
    OpenVinoInt8(),
    OpenVinoInt8Mixed("openvino-int8-mixed", rescues="openvino-int8", shift=0.8),
    OpenVinoInt8Mixed("openvino-int8-mixed-more", rescues="openvino-int8-mixed", shift=0.5),
    OnnxCuda(),
    OnnxTensorRt(),
)
