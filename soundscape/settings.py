"""Every setting, declared once: read from SOUNDSCAPE_* in the environment, with defaults that make one local stack."""

from __future__ import annotations

import os
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from soundscape.errors import Invalid, Reason

HOST = "127.0.0.1"
"""Everything binds to loopback."""


class Port(IntEnum):
    """Offsets from `port_base`, one an address. Workers take LIVE + n and BULK + n."""

    GATEWAY = 0
    KAFKA = 1
    KAFKA_CONTROLLER = 2
    REDIS = 3
    TRITON_HTTP = 4
    TRITON_GRPC = 5
    TRITON_METRICS = 6
    PROMETHEUS = 7
    MLFLOW = 8
    DEPLOYER = 9
    WATCHER = 10
    BOARD = 11
    RESULTS = 12
    RAY = 13
    RAY_DASHBOARD = 14
    TOURS = 15
    SAMPLE = 16
    SHADOW = 17
    LABELER = 18
    ARCHIVE = 19
    LIVE = 20
    BULK = 30
    QUALITY = 40


class Settings(BaseSettings):
    """One stack. Two stacks on one machine differ in `data_dir` and `port_base`, and in nothing else."""

    model_config = SettingsConfigDict(env_prefix="SOUNDSCAPE_", frozen=True)

    data_dir: Path = Field(
        Path("var"), description="Folder of all state: logs, releases, datasets, what Kafka and Redis keep, online_input, online_output"
    )
    port_base: int = Field(20100, ge=1024, le=65000, description="First port; every process takes one at a fixed distance")
    site: str = Field("el-silencio", description="Site of watcher, simulate, deploy and key create unless given")
    live_workers: int = Field(1, ge=1, le=10, description="Worker processes of the live lane")
    bulk_workers: int = Field(1, ge=1, le=10, description="Worker processes of the bulk lane")
    decoders: int | None = Field(None, ge=1, le=32, description="Decoding child processes a worker; as many as cores unless given")
    triton_instances: int | None = Field(
        None, ge=1, le=32, description="Instances of each model in Triton, of 1 thread each; as many as cores unless given"
    )
    min_free_gb: float = Field(2.0, ge=0, description="Free disk in GB below which gateway, watcher and simulate take no clip")
    max_backlog_clips: int = Field(5000, ge=1, description="Clips waiting in a lane above which the gateway accepts no clip")
    log_cap_gb: float = Field(20.0, gt=0, description="Disk in GB that all topics together may take")
    rebalance_poll_s: float = Field(86400.0, gt=0, description="Faust's broker_max_poll_interval; a test lowers it")
    model_probe_limit_s: float = Field(10.0, gt=0, description="A model failing its probe longer than this sends clips to dead letters")
    sample_rate: float = Field(0.05, ge=0, le=1, description="Share of clips sampled at random, by a hash of the clip id")
    sample_quota: int = Field(50, ge=0, description="Samples a day, site and reason, beside the random ones")
    speech_limit: float = Field(0.1, gt=0, le=1, description="Speech score from which a window and its neighbours are never sampled")
    sample_untold_speech: bool = Field(False, description="Sample clips of releases that cannot tell speech; the operator answers for it")
    tour_days: int = Field(45, ge=1, description="Days without news after which a tour's rows are dropped; its last summary stays")
    retrain_labels: int = Field(300, ge=1, description="New labels of a site after which one retraining is queued")
    canary_clips: int = Field(200, ge=1, description="Clips a candidate must have answered before it is promoted without --force")
    canary_streams: int = Field(3, ge=1, description="Streams they must come from")
    alarm_pairs: int = Field(40, ge=5, description="Clips answered by both releases before the deployer judges their disagreement")
    mlflow_uri: str | None = Field(None, description="MLflow elsewhere; the stack's own otherwise")
    ray_address: str | None = Field(None, description="Ray cluster elsewhere, as RAY_ADDRESS is otherwise; a local one unless given")
    ray_cpus: float = Field(1.0, gt=0, description="CPUs that a training worker asks of the Ray cluster")
    ray_memory_gb: float = Field(0.0, ge=0, description="Memory in GB that it asks for; none in particular unless given")
    ray_gpus: int = Field(0, ge=0, le=1, description="1 trains on a GPU")
    tagger: Path | None = Field(None, description="Weights of EfficientAT's AudioSet tagger (mn04_as_mAP_432.pt); left out unless given")
    training_speech_limit: float = Field(
        0.65, gt=0, le=1, description="Speech score by the tagger from which a window of training sound teaches nothing; 1 keeps them all"
    )
    imagenet: Path | None = Field(
        None, description="EfficientNet-B0's ImageNet weights (efficientnet_b0_rwightman-7f5810bc.pth) for `train --adapt`"
    )
    cnn14: Path | None = Field(None, description="Weights of PANNs' CNN14 (Cnn14_mAP=0.431.pth); left out unless given")
    perch: Path | None = Field(None, description="Perch as .onnx or .tflite; left out unless given")
    birdnet_dir: Path | None = Field(None, description="Folder of BirdNET's files elsewhere; those that set-up fetched otherwise")
    xeno_canto_key: SecretStr | None = Field(None, description="Key of Xeno-canto's API, from one's account there; for `fetch dates`")
    xeno_canto_url: str = Field("https://xeno-canto.org/api/3/recordings", description="Where Xeno-canto's API is; a test gives its own")
    inaturalist_url: str = Field("https://api.inaturalist.org/v1/observations", description="Where iNaturalist's API is; likewise")

    @property
    def decoding_children(self) -> int:
        """Decoding child processes of a worker."""
        return self.decoders or _cores()

    @property
    def model_instances(self) -> int:
        """Instances of each model in Triton; with 1 thread each they stay within the cores."""
        return self.triton_instances or _cores()

    def port(self, name: Port, n: int = 0) -> int:
        """The port of a process; `n` counts workers of one kind."""
        return self.port_base + name + n

    def address(self, name: Port, n: int = 0) -> str:
        """HOST:PORT of a process."""
        return f"{HOST}:{self.port(name, n)}"

    def url(self, name: Port, n: int = 0) -> str:
        """http://HOST:PORT of a process."""
        return f"http://{self.address(name, n)}"

    @property
    def root(self) -> Path:
        """`data_dir`, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def online_input(self) -> Path:
        """Where the watcher looks for recordings."""
        return self.root / "online_input"

    @property
    def online_output(self) -> Path:
        """Where the answers to watched recordings appear."""
        return self.root / "online_output"

    @property
    def releases(self) -> Path:
        """One folder a release."""
        return self.root / "releases"

    @property
    def birdnet(self) -> Path:
        """Folder of BirdNET's files: the one named, or that which set-up fills."""
        return self.birdnet_dir or Path(__file__).resolve().parents[1] / ".tools" / "birdnet"

    @property
    def model_repository(self) -> Path:
        """Triton's repository, built from the releases by the deployer."""
        return self.root / "model_repository"

    @property
    def state(self) -> Path:
        """Small files of the processes: pids, keys' hashes, the watcher's ledger. Mode 0700."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.root / "logs"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address."""
        return self.mlflow_uri or self.url(Port.MLFLOW)


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)))


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once from its environment. Raises Invalid, naming the variable, if one does not hold."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"SOUNDSCAPE_{str(one['loc'][0]).upper()}={one['input']!r}: {one['msg']}" for one in error.errors())
        raise Invalid(Reason.BAD_REQUEST, f"A setting does not hold: {wrong}; set it right or unset it.") from None
