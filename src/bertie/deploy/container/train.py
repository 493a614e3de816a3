"""The training program of a SageMaker job: `train` in our image, or `train.py` of a source folder in one of AWS's.

Nothing waits for SIGTERM, which neither of AWS's starters passes on: checkpoints are written now and then, and the
same job started again with its checkpoints goes on from the newest whole one.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence

from bertie.deploy.container.channels import Channels, channels
from bertie.deploy.container.hyperparameters import Asked, asked, from_file, from_words
from bertie.deploy.container.metrics import MetricTalk
from bertie.deploy.container.place import Place, ended, interface_of, sentences
from bertie.errors import BertieError
from bertie.pipeline.launch import become_torchrun, launch_here
from bertie.pipeline.supervise import in_worker

PROGRAM = ("-m", "bertie.deploy.container", "train")


def main(words: Sequence[str] | None = None) -> None:
    """Train as the job asks for it; end the process with the exit code of errors.py if that fails.

    `words` are hyperparameters that go before those of hyperparameters.json; those of the command line if not given.
    What went wrong is in output/failure then, in sentences.
    """
    given = sys.argv[1:] if words is None else list(words)
    place = Place.of(os.environ)
    try:
        train(given[1:] if given[:1] == ["train"] else given, place, os.environ)
    except BertieError as error:
        place.fail(sentences(error))
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except Exception as error:
        # An error's own message may hold texts of the user; where it happened does not.
        kind = type(error).__name__
        place.fail(f"an error in bertie itself ({kind}); the log of the job shows where it happened.")
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)) + f"error: {kind}\n")
        sys.exit(1)


def train(words: Sequence[str], place: Place, environment: MutableMapping[str, str]) -> None:
    """Train in this process, in one of its own that is watched, or as torchrun on each host; deliver the result.

    Raises UsageError, DataError, TrainingError and what else `bertie train` raises.
    """
    given = from_file(place.config / "hyperparameters.json") | from_words(words)
    found = channels(place.data, place.config / "inputdataconfig.json")
    usual = {"BERTIE_TRAIN_CHECKPOINTS": str(place.checkpoints), "BERTIE_TRAIN_KEEP_AT_END": "true"}
    if found.base is not None:
        usual["BERTIE_TRAIN_BASE"] = str(found.base)
    settings = asked(given, {**usual, **environment})
    worker = "WORLD_SIZE" in environment  # of a torchrun, which starts each process itself
    if not worker:
        place.forget()
    launch = launch_here(environment)

    def finished(code: int) -> None:
        if code:
            place.fail(ended(code))

    if launch is not None:
        in_worker(0, finished)
        become_torchrun(launch, words, environment, PROGRAM)
    # A torchrun that the platform started was not told on which network the hosts meet.
    if worker and not environment.get("GLOO_SOCKET_IFNAME") and (interface := interface_of(place.config)):
        environment["GLOO_SOCKET_IFNAME"] = interface
    _train_here(place, settings, found, kills=in_worker(settings.train.restarts, None if worker else finished))


def _train_here(place: Place, settings: Asked, found: Channels, *, kills: int) -> None:
    from bertie.pipeline.run_folder import Request, Run  # noqa: PLC0415 - PyTorch comes after the fork
    from bertie.pipeline.train_run import train_run  # noqa: PLC0415

    talk = MetricTalk()
    request = Request(found.data, place.run, found.valid, found.test, overwrite=True, again=True, kills=kills)
    result = train_run(request, settings.data, settings.split, settings.train, talk)
    if not result:  # another process of the same training says it
        return
    if Run.open(place.run).facts["measured_on"] == "test":
        talk.tell("test", result["metrics"])
    talk.tell("train", {"seconds": result["train_seconds"]})
    place.deliver()
    talk.say(f"bundle and checkpoint are in {place.model}; the report is in {place.root / 'output' / 'data'}")
