"""Pictures as a Dagster asset: a partition is a batch, and materialising it again enqueues nothing anew."""

# No `from __future__ import annotations`: Dagster looks at the types themselves.

from collections.abc import Iterator, Mapping
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    ConfigurableResource,
    Definitions,
    MaterializeResult,
    MetadataValue,
    RetryPolicy,
    StaticPartitionsDefinition,
    asset,
)

from orchestrator import Orchestrator
from orchestrator.errors import JobCancelled, JobFailed

EVERY_ONE = "every_one_has_a_picture"
SHOWN_FAILURES = 20


class Pictures(ConfigurableResource):
    """Generates pictures by way of the orchestrator that the environment names.

    Jobs run in the orchestrator, not in Dagster: a run that is killed loses the waiting alone.
    """

    provider: str = "useapi_frames"
    patience_seconds: float = 86_400.0  # of one run; the jobs go on after it

    def generate(
        self, context: AssetExecutionContext, requests: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[MaterializeResult | AssetCheckResult]:
        """Enqueue what is not enqueued yet, wait for all of it, and tell what came.

        `requests`: custom id → parameters. Safe to call twice: asset and partition (without partitions: the
        first of the runs that retry each other) name the batch, and the custom ids its jobs.
        Raises: Conflict where a custom id was given to other parameters before; TimeoutError.
        """
        with Orchestrator.from_env() as orchestrator:
            batch = orchestrator.enqueue_many(
                self.provider, requests.values(), custom_ids=requests.keys(), batch=_batch(context)
            )
            context.log.info(f"batch {batch.name}: {batch.counts()}")
            pictures, failures, attempts = dict[str, list[str]](), dict[str, str](), 0
            for job in batch.as_completed(self.patience_seconds):
                custom_id = job.record.custom_id
                try:
                    result = job.result()
                except (JobFailed, JobCancelled) as error:
                    failures[custom_id] = str(error)
                    continue
                pictures[custom_id] = [each.path or each.url for each in result.artifacts]
                attempts += result.attempts
        metadata = {
            "batch": batch.name,
            "succeeded": len(pictures),
            "failed": len(failures),
            "attempts": attempts,
            "pictures": MetadataValue.json(pictures),
            "failures": MetadataValue.json(dict(list(failures.items())[:SHOWN_FAILURES])),
        }
        yield MaterializeResult(metadata=metadata)
        yield AssetCheckResult(passed=not failures, check_name=EVERY_ONE)


def _batch(context: AssetExecutionContext) -> str:
    asset_name = "-".join(context.asset_key.path)
    return f"{asset_name}:{context.partition_key if context.has_partition_key else _first_run(context)}"


def _first_run(context: AssetExecutionContext) -> str:
    return context.run.root_run_id or context.run_id


PROMPTS = {
    "autumn": ["terraced hills after rain", "wheat fields in wind", "an orchard in red"],
    "winter": ["a glacier at first light", "a harbour under snow", "a mountain railway"],
}


@asset(
    partitions_def=StaticPartitionsDefinition(list(PROMPTS)),
    check_specs=[AssetCheckSpec(EVERY_ONE, asset="seasons")],
    retry_policy=RetryPolicy(max_retries=3, delay=30),
)
def seasons(
    context: AssetExecutionContext, pictures: Pictures
) -> Iterator[MaterializeResult | AssetCheckResult]:
    """The pictures of a season."""
    requests = {f"{n}": {"text_prompt": prompt} for n, prompt in enumerate(PROMPTS[context.partition_key])}
    yield from pictures.generate(context, requests)


defs = Definitions(assets=[seasons], resources={"pictures": Pictures()})
