"""`/v1/plan`: what a job would do and what that takes, before anybody launches it."""

import asyncio
from collections import Counter
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from configs.budget import BudgetSpec
from configs.instances import INSTANCES
from configs.load import parse
from configs.schema import JobSpec
from service.api.answers import PlanAnswer, PlanRates
from service.api.context import Context, JobReader
from service.api.fields import ShortName
from service.api.jobs import JobBody
from service.api.problems import Problem, responses
from service.jobs.choose import ChosenJob, choose
from service.jobs.plan import JobPlan, plan_job
from service.jobs.policy import checked_job
from workers.dataset.take import DatasetError
from workers.run.stale import State, states

router = APIRouter(tags=["jobs"])
# Whether a store is of today's videos costs a request for each of its streams.
STATED_TAKES = 500


class PlanBody(JobBody):
    """A job spec, and on which machines it would run."""

    workers: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="how many there would be; as many as the service runs without it"
    )
    instance: ShortName | None = Field(
        None, description="a kind of machine of the answer's `instances`, at its list price"
    )
    worker_price: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="what one worker costs an hour, in any currency; before `instance`"
    )


@router.post("/v1/plan", summary="Plan a job", responses=responses(413))
async def plan(body: PlanBody, context: Context, caller: JobReader) -> PlanAnswer:
    """What a job would do and what that takes, as `takestream plan` says it; nothing is written.

    Hours and money need a calibration of the job's encoders in the output, as `takestream
    calibrate` makes it.
    """
    machines = {"workers", "instance", "worker_price"}
    given = body.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=machines)
    job = checked_job(given, context.spec, context.catalogue.presets)
    budget = job.run.budget
    if body.instance or body.worker_price:
        priced = {"instance": body.instance, "worker_price": body.worker_price}
        budget = parse(BudgetSpec, {k: v for k, v in priced.items() if v}, "plan")
    run = {"budget": budget, "workers": body.workers or job.run.workers}
    job = job.model_copy(update={"run": job.run.model_copy(update=run)})
    try:
        return await asyncio.to_thread(_planned, job)
    except DatasetError as error:
        raise Problem(404, str(error)) from None


def _planned(job: JobSpec) -> PlanAnswer:
    chosen = choose(job)
    made = plan_job(chosen.recipe, chosen.takes)
    facts = made.facts()
    return PlanAnswer(
        takes=len(made.takes),
        encoders=facts["encoders"],
        states=_states(chosen),
        clips=facts["clips"],
        clips_left=facts["clips_left"],
        units=facts["units"],
        bytes_left=facts["bytes_left"],
        exact=facts["exact"],
        absent=sum(len(take.absent) for take in made.takes),
        rates=_rates(made),
        estimate=made.estimate,
        instances=list(INSTANCES.values()),
        words=[made.amount, *made.price],
    )


def _states(chosen: ChosenJob) -> dict[State, int] | None:
    if len(chosen.takes) > STATED_TAKES:
        return None
    return dict(Counter(found.state for found in states(chosen.recipe, chosen.takes)))


def _rates(made: JobPlan) -> PlanRates | None:
    if made.calibration is None:
        return None
    known, uri = made.calibration
    return PlanRates(
        uri=uri,
        made_at=known.made_at,
        machine=", ".join(dict.fromkeys(one.size.machine for one in known.sizes)),
        device=known.device,
        workers=known.workers,
        clips_per_s=known.clips_per_s,
    )
