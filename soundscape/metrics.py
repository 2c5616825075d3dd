"""Every metric of every process, declared once: name, kind, labels, meaning. The table in ARCHITECTURE.md comes from here."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.09, 0.12, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60, 300)
"""Bucket bounds in seconds; the numbers we hold (60, 120, 200, 300 ms) are among them."""

CLIPS_IN = Counter("soundscape_clips_in_total", "Clips accepted or read, by process and lane", ("process", "lane"))
CLIPS_OUT = Counter("soundscape_clips_out_total", "Clips answered or written, by process and lane", ("process", "lane"))
DEAD_LETTERS = Counter("soundscape_dead_letters_total", "Records that became dead letters, by lane and reason", ("lane", "reason"))
REFUSED = Counter("soundscape_refused_total", "Requests the gateway refused, by status", ("status",))
REPLAYED = Counter("soundscape_replayed_total", "Dead letters published again, by reason", ("reason",))
STAGE_SECONDS = Histogram("soundscape_stage_seconds", "Seconds a clip spent in a stage", ("lane", "stage"), buckets=LATENCY_S)
ANSWER_SECONDS = Histogram("soundscape_answer_seconds", "Seconds from HTTP request to prediction in the response", buckets=LATENCY_S)
WINDOWS = Counter("soundscape_windows_total", "Windows of 5 s analysed", ("lane",))
DETECTIONS = Counter("soundscape_detections_total", "Detections above their threshold", ("site", "label"))
MEMBERS_LEFT_OUT = Counter("soundscape_members_left_out_total", "Answers given without a member, by member", ("member",))
UNREADABLE = Counter("soundscape_unreadable_total", "Records skipped because they do not decode, by reader", ("process", "topic"))
CONSUMER_LAG = Gauge("soundscape_consumer_lag", "Records not yet read", ("process", "topic"))
IN_FLIGHT = Gauge("soundscape_clips_in_flight", "Clips being analysed now", ("lane",))
WAITING = Gauge("soundscape_waiting_for_model_server", "1 while clips wait for Triton", ("lane",))
GENERATION = Gauge("soundscape_deployment_generation", "Deployment generation in force in this process", ("process", "site"))
MODEL_READY = Gauge("soundscape_model_ready", "1 if the model answered its synthetic inference", ("model",))
MODEL_HEALED = Counter("soundscape_model_healed_total", "Loads that brought a dead model back", ("model",))
CANARY_FAILED = Counter("soundscape_canary_failed_total", "Clips that a candidate failed and the champion answered", ("site",))
SHADOWED = Counter("soundscape_shadowed_total", "Clips of the shadow, by what became of them", ("what",))
QUALITY = Gauge(
    "soundscape_quality", "Precision and recall over the completed random sample, with bounds", ("site", "release", "what", "bound")
)
QUALITY_COMPLETED = Gauge("soundscape_quality_completed", "Windows of the completed prefix of the random sample", ("site",))
QUALITY_WITHHELD = Gauge(
    "soundscape_quality_withheld", "Share of the random stratum that nobody was given to label, by why not", ("site", "reason")
)
QUALITY_DRIFT = Gauge("soundscape_quality_drift", "Population stability index against the training set, by what drifts", ("site", "what"))
SAMPLED = Counter("soundscape_sampled_total", "Samples published for labelers, by reason", ("reason",))
WITHHELD = Counter(
    "soundscape_withheld_total", "Clips that a reason asked for and that were not sampled, by that reason and why not", ("reason", "why")
)
SAMPLE_LAG = Gauge("soundscape_sample_lag_seconds", "Age of the oldest record the sampler has not done, by its sound's topic", ("topic",))
SAMPLE_LAG_SHARE = Gauge(
    "soundscape_sample_retention_used", "The same as a share of that topic's retention; at 1 the sound is gone", ("topic",)
)
TOURS_OPEN = Gauge("soundscape_tours_open", "Tours that were started and have not ended")
TOURS_SUMMED = Counter("soundscape_tours_summed_total", "Summaries of tours published", ("site",))
TOURS_PASSED_OVER = Counter("soundscape_tours_passed_over_total", "Records that a tour's rows do not take, by topic", ("topic",))
FEEDBACK_SECONDS = Histogram(
    "soundscape_feedback_seconds", "Seconds from a guide's judgement to its tour's published summary", buckets=LATENCY_S
)
FILES = Counter("soundscape_files_total", "Files of the watched folder, by what became of them", ("what",))

METRICS = tuple(
    value for value in list(globals().values()) if isinstance(value, Counter | Gauge | Histogram)
)
"""All of them, in the order above."""
