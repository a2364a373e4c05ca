"""One arm and seed of an experiment: the SIA loop, generation after generation.

Only the order of things stands here; each step is a plain function of `sia_flow.loop` that a runner runs.
"""

from __future__ import annotations

import time

from sia_flow.errors import BudgetSpentError, NotApprovedError
from sia_flow.lineage.records import Generation, Spend, WeightPlan
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import StepRecord
from sia_flow.loop.approval import permitted, refusals
from sia_flow.loop.arm import ArmState, Made, make_generation, select_sample, train_sample, with_talk
from sia_flow.loop.control import best_of_n, chunks_for
from sia_flow.loop.decide import decision_of, edited, prepare_edit, prepare_feedback
from sia_flow.loop.equal import Target, policy_rate
from sia_flow.loop.evaluate import Agent, evaluate
from sia_flow.loop.finish import arm_key, finish_arm
from sia_flow.loop.fork import forked
from sia_flow.loop.gpu import spent_gpu
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Runner
from sia_flow.loop.probe import prepare_probes
from sia_flow.loop.rematch import rematch
from sia_flow.loop.reuse import earlier_programs
from sia_flow.loop.sealed import refuse_second_reading
from sia_flow.loop.stopping import spent
from sia_flow.loop.synth import prepare_synth
from sia_flow.loop.train import Place, prepare_train
from sia_flow.loop.unaided import ended_alone, made_alone, prepare_unaided


def improve(
    lab: Lab, run: Runner, state: ArmState, deadline: float | None = None, target: Target | None = None
) -> ArmResult:
    """Grow an arm until its budget is spent or the Feedback-Agent stops, then measure it on the sealed split.

    `deadline` is a reading of `time.monotonic`; past it no further generation starts. An arm that ended so is
    done until the spec gives it more wall time. With a `target` it grows until it has spent that, however many
    generations the budget allows.
    """
    extra = dict(target.as_key()) if target else {}
    key, late = arm_key(lab, state, extra), arm_key(lab, state, {**extra, "wall": lab.spec.budget.wall})
    refused = {question: arm_key(lab, state, {**extra, "approval": question}) for question in refusals(lab, state)}
    keys = (key, late, *refused.values())
    found = next(filter(None, map(lab.store.arm, keys)), None)
    if found is not None:
        return found
    refuse_second_reading(lab, state, keys)
    first_generation(lab, run, state)
    try:
        stopped = grow(lab, run, state, deadline, target)
    except NotApprovedError as error:
        return finish_arm(lab, run, state, error.reason, arm_key(lab, state, {**extra, "approval": error.question}))
    return finish_arm(lab, run, state, stopped, late if stopped == "budget.wall" else key)


def control(lab: Lab, run: Runner, state: ArmState, rollouts: int) -> ArmResult:
    """Run the control `best-of-n` at as many rollouts as the dearest arm of its seed spent."""
    key = arm_key(lab, state, {"chunks": chunks_for(lab.spec, rollouts)})
    found = lab.store.arm(key)
    if found is not None:
        return found
    refuse_second_reading(lab, state, (key,))
    first_generation(lab, run, state)
    return best_of_n(lab, run, state, rollouts, key)


def first_generation(lab: Lab, run: Runner, state: ArmState) -> Generation:
    """Meta-Agent's scaffold on the bare base, or the generation that was forked: the same for all arms of a seed."""
    run(lab, prepare_probes(lab))
    if lab.spec.start is not None:
        return _generation(lab, run, state, forked(lab, lab.spec.start))
    synth = run(lab, prepare_synth(lab, state.seed))
    agent = Agent(synth.outputs["scaffold"], None)
    return _generation(lab, run, state, Made(agent, None, synth.spend, {"scaffold synth": synth.key}))


def grow(lab: Lab, run: Runner, state: ArmState, deadline: float | None = None, target: Target | None = None) -> str:
    """Add generations until the budget, or the target, is spent or the Feedback-Agent stops; return why it ended.

    Raises NotApprovedError where a person has to allow a pull and does not.
    """
    if state.arm.control == "unaided":
        return _alone(lab, run, state)
    while target is not None or len(state.history) <= lab.spec.budget.generations:
        over = _over(lab, state, deadline, target)
        if over is not None:
            return over
        try:
            feedback = run(lab, prepare_feedback(lab, run, state))
        except BudgetSpentError as error:
            state.spend += Spend(usd=error.usd)
            return error.limit
        decision = decision_of(feedback)
        if decision.lever == "stop":
            return f"stop: {decision.reason}"
        _generation(lab, run, state, with_talk(_pull(lab, run, state, feedback), feedback))
    return "budget.generations"


def _over(lab: Lab, state: ArmState, deadline: float | None, target: Target | None) -> str | None:
    if target is not None and target.reached(state.spend, policy_rate(lab.spec)):
        return "equal spend"
    if deadline is not None and time.monotonic() > deadline + state.waited:
        return "budget.wall"
    return spent(lab.spec.budget, state.spend) or spent_gpu(lab, state)


def _alone(lab: Lab, run: Runner, state: ArmState) -> str:
    record = run(lab, prepare_unaided(lab, state))
    _generation(lab, run, state, made_alone(lab, record))
    # Its best program is to be its own, not one of the first scaffold's.
    state.evaluations.pop(state.history[0].id)
    return ended_alone(record)


def _pull(lab: Lab, run: Runner, state: ArmState, feedback: StepRecord) -> Made:
    parent, decision = state.parent(lab), decision_of(feedback)
    made = Made(Agent(parent.scaffold, parent.adapter), decision, feedback.spend, {})
    try:
        if decision.lever in ("harness", "both"):
            made = _edit(lab, run, state, feedback)
        if decision.lever in ("weights", "both") and decision.weights is not None:
            made = _train(lab, run, state, feedback, made, decision.weights)
    except NotApprovedError:
        state.spend += made.spend
        raise
    return made


def _edit(lab: Lab, run: Runner, state: ArmState, feedback: StepRecord) -> Made:
    decision = decision_of(feedback)
    record = run(lab, permitted(lab, state, feedback, prepare_edit(lab, state, decision)))
    scaffold, trials = edited(record)
    agent = Agent(scaffold, state.parent(lab).adapter)
    return Made(agent, decision, feedback.spend + record.spend, {"scaffold edit": record.key}, trials)


def _train(lab: Lab, run: Runner, state: ArmState, feedback: StepRecord, made: Made, plan: WeightPlan) -> Made:
    index = len(state.history)
    place = Place(state.arm.name, state.seed, index, state.label(index, plan.algorithm))
    prepared = prepare_train(lab, made.agent, plan, place, earlier_programs(lab, state))
    record = run(lab, permitted(lab, state, feedback, prepared))
    lab.drop_work(record.key)
    return Made(
        agent=Agent(made.agent.scaffold, record.outputs["adapter"]),
        decision=made.decision,
        spend=made.spend + record.spend,
        steps={**made.steps, "train-LoRA": record.key},
        trials=made.trials,
        training=tuple(record.result["steps"]),
        programs=record.outputs["programs"],
    )


def _generation(lab: Lab, run: Runner, state: ArmState, made: Made) -> Generation:
    index = len(state.history)
    train = evaluate(lab, run, made.agent, train_sample(lab), state.seed, state.label(index, "train"))
    select = evaluate(lab, run, made.agent, select_sample(lab), state.seed, state.label(index, "select"))
    generation = make_generation(lab, state, made, train, select, rematch(lab, run, state, made.agent, select))
    state.add(generation, train, made.programs)
    lab.watcher.generation(state.arm.name, generation)
    return generation
