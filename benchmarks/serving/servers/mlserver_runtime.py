"""A runtime for MLServer, which batches for it: `mlserver start FOLDER`, with the settings that `settings` writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

sys.path.insert(0, str(Path(__file__).parent))
from scorer import Scorer


class Classifier(MLModel):  # type: ignore[misc] # has no types
    """A text a row."""

    async def load(self) -> bool:
        """Load the model, in the worker."""
        self.score = Scorer(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score a batch."""
        answers = self.score(StringCodec.decode_input(payload.inputs[0]))
        labels = StringCodec.encode_output("label", [one["label"] for one in answers], use_bytes=False)
        return InferenceResponse(model_name=self.name, outputs=[labels])


def settings(folder: Path, checkpoint: str, port: int) -> None:
    """Write the files that MLServer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": 0, "metrics_port": 0, "debug": False}
    model = {
        "name": "model",
        "implementation": "mlserver_runtime.Classifier",
        "max_batch_size": 32,
        "max_batch_time": 0.002,
        "parameters": {"uri": checkpoint},
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")


if __name__ == "__main__":
    settings(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
